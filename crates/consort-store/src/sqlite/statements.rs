//! Statements of fixed sizes for any number of rows.
//!
//! Each statement crosses to the driver's thread and back, which costs as much as a dozen rows; a statement that is not
//! cached must be compiled. So rows are packed into statements of a few sizes, and those stay prepared.

use std::sync::Arc;

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, SqlSafeStr, SqlStr, Sqlite, Type};

/// Powers of two up to 256 rows: any smaller number of rows needs eight statements at most.
const SIZES: usize = 9;

/// A statement with its values, owned, so that it can outlive the caller.
pub(super) struct Statement {
    pub(super) sql: SqlStr,
    pub(super) values: Values,
}

impl Statement {
    /// A statement for itself.
    pub(super) fn new(sql: &'static str, fill: impl FnOnce(&mut Values)) -> Statement {
        let mut values = Values::default();
        fill(&mut values);
        Statement { sql: sql.into_sql_str(), values }
    }
}

/// The values of a statement, in order.
#[derive(Default)]
pub(super) struct Values(pub(super) SqliteArguments);

impl Values {
    pub(super) fn add<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(&mut self, value: T) {
        self.0.add(value).expect("integers, texts and bytes always encode");
    }
}

/// SQL around a list of rows: `before (?,?),(?,?) after`.
pub(super) struct Bulk {
    /// By the logarithm of the number of rows.
    sql: [Arc<str>; SIZES],
    columns: usize,
}

impl Bulk {
    pub(super) fn new(before: &str, columns: usize, after: &str) -> Bulk {
        let row = format!("({})", vec!["?"; columns].join(","));
        let sql = |size: usize| format!("{before} {} {after}", vec![row.as_str(); 1_usize << size].join(",")).into();
        Bulk { sql: std::array::from_fn(sql), columns }
    }

    /// The statements for these rows, in order.
    pub(super) fn statements<T>(&self, mut rows: &[T], fill: impl Fn(&T, &mut Values)) -> Vec<Statement> {
        let mut statements = Vec::new();
        while !rows.is_empty() {
            let size = (rows.len().ilog2() as usize).min(SIZES - 1);
            let (now, later) = rows.split_at(1 << size);
            let mut values = Values::default();
            values.0.reserve(now.len() * self.columns, 0);
            for row in now {
                fill(row, &mut values);
            }
            statements.push(Statement { sql: AssertSqlSafe(self.sql[size].clone()).into_sql_str(), values });
            rows = later;
        }
        statements
    }
}
