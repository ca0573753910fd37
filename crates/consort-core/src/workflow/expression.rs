//! One `${{ }}` expression: CEL, compiled and checked against the names it may use.
//!
//! Every path with fixed parts, such as `steps.cost.output.saving`, is cut out of the syntax tree and becomes a variable of its own
//! (`@0`, `@1` and so on). So only the values that an expression reads are looked up and converted, whatever else a run holds, and an
//! expression that is nothing but a path needs no CEL at all.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::parser::Parser;

use super::lookup::Segment;
use super::scan;
use super::suggest::{brief, list, nearest};

/// Most nodes of a syntax tree.
const NODE_LIMIT: usize = 1_000;
/// Deepest nesting of brackets and calls.
const NESTING_LIMIT: u16 = 32;
/// Deepest nesting of `map`, `filter`, `all`, `exists` and `exists_one`.
const LOOP_LIMIT: usize = 2;
/// What one `matches` costs, in nodes: it compiles its pattern each time.
const MATCHES_COST: i64 = 500;

mod paths;

const FUNCTIONS: [&str; 13] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
];
const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];
const TYPES: [&str; 10] = ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"];
/// What every expression of a step can read.
const ROOTS: [&str; 3] = ["inputs", "steps", "run"];

/// What only some expressions can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// The item of a `for_each`.
    Item,
    /// The number of an item or iteration, from 0.
    Index,
    /// The output of the iteration before; `null` in the first.
    Last,
    /// The answer to a step's `clarify`; `null` if nothing was asked.
    Clarification,
    /// The event that fired a trigger.
    Event,
    /// The signal that fired a trigger.
    Signal,
    /// The schedule that fired: `time`.
    Schedule,
}

impl Local {
    const ALL: [Local; 7] =
        [Local::Item, Local::Index, Local::Last, Local::Clarification, Local::Event, Local::Signal, Local::Schedule];

    /// Its name in expressions.
    pub fn name(self) -> &'static str {
        match self {
            Local::Item => "item",
            Local::Index => "index",
            Local::Last => "last",
            Local::Clarification => "clarification",
            Local::Event => "event",
            Local::Signal => "signal",
            Local::Schedule => "schedule",
        }
    }

    fn named(name: &str) -> Option<Local> {
        Local::ALL.into_iter().find(|local| local.name() == name)
    }

    /// Where it is there, for an error message.
    fn place(self) -> &'static str {
        match self {
            Local::Item => "inside a step with `for_each`",
            Local::Index => "inside a step with `for_each` or `while`",
            Local::Last => "inside a step with `while`",
            Local::Clarification => "in the `with` of a step with `clarify`",
            Local::Event => "in an `event` trigger",
            Local::Signal => "in a `signal` trigger",
            Local::Schedule => "in a `schedule` trigger",
        }
    }
}

/// Where a path begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Root {
    Inputs,
    Output(Arc<str>),
    Status(Arc<str>),
    Error(Arc<str>),
    Local(Local),
    RunId,
    RunWorkflow,
    RunProject,
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = |id: &str| Segment::Key(id.to_owned());
        match self {
            Root::Inputs => f.write_str("inputs"),
            Root::Output(id) => write!(f, "steps{}.output", step(id)),
            Root::Status(id) => write!(f, "steps{}.status", step(id)),
            Root::Error(id) => write!(f, "steps{}.error", step(id)),
            Root::Local(local) => f.write_str(local.name()),
            Root::RunProject => f.write_str("run.project"),
            Root::RunId => f.write_str("run.id"),
            Root::RunWorkflow => f.write_str("run.workflow"),
        }
    }
}

/// A path with fixed parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Path {
    /// Number of its root in the template.
    pub root: usize,
    pub segments: Vec<Segment>,
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    /// As it was written, for error messages.
    pub source: String,
    pub form: Form,
}

#[derive(Debug)]
pub(super) enum Form {
    /// Nothing but a path.
    Path(Path),
    /// Anything else; the variable `@n` stands for the n-th path.
    Cel { tree: IdedExpr, paths: Vec<Path> },
}

/// What an expression may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub inputs: &'a [String],
    pub steps: &'a HashMap<Arc<str>, usize>,
    /// What else is there.
    pub locals: &'a [Local],
    /// Whether these are the expressions of a trigger: there is no run yet, and so no inputs, steps and run.
    pub trigger: bool,
}

impl Names<'_> {
    /// The names an expression can begin with.
    fn known(&self) -> impl Iterator<Item = &'static str> {
        let roots: &[&'static str] = if self.trigger { &[] } else { &ROOTS };
        roots.iter().copied().chain(self.locals.iter().map(|local| local.name()))
    }
}

/// What is wrong with an expression, and how to mend it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub message: String,
    pub hint: String,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: hint.into() }
    }
}

/// Compiles an expression. New roots are added to `roots`, which the expressions of a template share.
pub(super) fn compile(source: &str, names: &Names<'_>, roots: &mut Vec<Root>) -> Result<Expression, Vec<Problem>> {
    let source = source.trim();
    let code = scan::code(source).map_err(|problem| vec![problem])?;
    let hyphens = hyphenated(&code, names);
    if !hyphens.is_empty() {
        return Err(hyphens);
    }
    let mut tree = Parser::new().max_recursion_depth(NESTING_LIMIT).parse(source).map_err(|errors| {
        let first = errors.errors.first();
        let why = first.map_or_else(String::new, |error| syntax(&error.msg, error.pos.1));
        vec![Problem::new(
            format!("`{}` is not an expression{why}", brief(source, 80)),
            "expressions are written in CEL",
        )]
    })?;
    let mut compiler =
        Compiler { names, roots, paths: Vec::new(), variables: Vec::new(), problems: Vec::new(), nodes: 0, loops: 0 };
    compiler.visit(&mut tree);
    if compiler.nodes > NODE_LIMIT {
        let message = format!("`{}` has {} parts; at most {NODE_LIMIT} are allowed", brief(source, 80), compiler.nodes);
        compiler.problems.push(Problem::new(message, "compute parts of it in `set` steps"));
    }
    if !compiler.problems.is_empty() {
        compiler.problems.dedup();
        return Err(compiler.problems);
    }
    let mut paths = compiler.paths;
    let whole = matches!(&tree.expr, Expr::Ident(name) if name == "@0");
    let form = if whole { Form::Path(paths.swap_remove(0)) } else { Form::Cel { tree, paths } };
    Ok(Expression { source: source.to_owned(), form })
}

/// What the parser says, without its list of all that could have stood there.
fn syntax(message: &str, column: isize) -> String {
    if message.contains("Recursion limit") {
        return format!(": it is nested more than {NESTING_LIMIT} deep");
    }
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message).replace("'<EOF>'", "end");
    format!(": {} at character {column}", brief(&message, 120))
}

/// Names with `-` after a dot, which CEL reads as a subtraction.
fn hyphenated(code: &str, names: &Names<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for root in ["steps", "inputs"] {
        for (at, _) in code.match_indices(&format!("{root}.")) {
            let rest = &code[at + root.len() + 1..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
            let name = &rest[..end];
            let known =
                if root == "steps" { names.steps.contains_key(name) } else { names.inputs.iter().any(|i| i == name) };
            if known && name.contains('-') {
                let message = format!("`{root}.{name}` reads as a subtraction because of the `-`");
                problems.push(Problem::new(message, format!("write `{root}['{name}']`")));
            }
        }
    }
    problems
}

struct Compiler<'a> {
    names: &'a Names<'a>,
    roots: &'a mut Vec<Root>,
    paths: Vec<Path>,
    /// Variables of the loops around.
    variables: Vec<String>,
    problems: Vec<Problem>,
    nodes: usize,
    loops: usize,
}

impl Compiler<'_> {
    fn visit(&mut self, node: &mut IdedExpr) {
        self.nodes += 1;
        if let Some((root, segments)) = self.path_of(node) {
            if let Some(path) = self.resolve(&root, segments) {
                node.expr = self.variable(path);
            }
            return;
        }
        match &mut node.expr {
            Expr::Ident(name) => self.check_name(name),
            Expr::Select(select) => {
                if !select.test || self.check_presence(&select.operand, &select.field) {
                    self.visit(&mut select.operand);
                }
            }
            Expr::Call(call) => self.visit_call(call),
            Expr::List(items) => items.elements.iter_mut().for_each(|item| self.visit(item)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.visit(&mut entry.key);
                        self.visit(&mut entry.value);
                    }
                }
            }
            Expr::Struct(message) => {
                let name = brief(&message.type_name, 60);
                self.problems.push(Problem::new(format!("there is no type `{name}`"), "write a map: `{'key': value}`"));
            }
            Expr::Comprehension(comprehension) => self.visit_loop(comprehension),
            Expr::Literal(_) | Expr::Unspecified => {}
        }
        if self.loops > 0 {
            meter(node);
        }
    }

    fn visit_call(&mut self, call: &mut CallExpr) {
        let name = call.func_name.as_str();
        let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if word && !FUNCTIONS.contains(&name) {
            let hint = match nearest(name, FUNCTIONS.into_iter().chain(MACROS)) {
                Some(meant) if MACROS.contains(&name) => format!("`{meant}` is written like `list.{meant}(x, …)`"),
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there are {}", list(FUNCTIONS.into_iter().chain(MACROS))),
            };
            self.problems.push(Problem::new(format!("there is no function `{}` of this form", brief(name, 60)), hint));
        }
        if let Some(target) = &mut call.target {
            self.visit(target);
        }
        call.args.iter_mut().for_each(|arg| self.visit(arg));
    }

    fn visit_loop(&mut self, comprehension: &mut ComprehensionExpr) {
        self.visit(&mut comprehension.iter_range);
        self.visit(&mut comprehension.accu_init);
        self.loops += 1;
        if self.loops > LOOP_LIMIT {
            let message = format!("loops (`map`, `filter`, `all`, `exists`) are nested more than {LOOP_LIMIT} deep");
            self.problems.push(Problem::new(message, "compute the inner one in a `set` step"));
            self.loops -= 1;
            return;
        }
        let before = (self.variables.len(), self.nodes);
        self.variables.push(comprehension.iter_var.clone());
        self.variables.extend(comprehension.iter_var2.clone());
        self.variables.push(comprehension.accu_var.clone());
        // The condition stays as the macro made it, and so does the head of `@result + [element]`: CEL builds such lists in place.
        let appends = |call: &CallExpr| {
            call.func_name == operators::ADD
                && matches!(call.args.first().map(|a| &a.expr), Some(Expr::Ident(name)) if *name == comprehension.accu_var)
        };
        match &mut comprehension.loop_step.expr {
            Expr::Call(call) if appends(call) => self.visit(&mut call.args[1]),
            Expr::Call(call) if call.func_name == operators::CONDITIONAL && call.args.len() == 3 => {
                self.visit(&mut call.args[0]);
                match &mut call.args[1].expr {
                    Expr::Call(call) if appends(call) => self.visit(&mut call.args[1]),
                    _ => self.visit(&mut call.args[1]),
                }
            }
            _ => self.visit(&mut comprehension.loop_step),
        }
        self.visit(&mut comprehension.result);
        self.variables.truncate(before.0);
        self.loops -= 1;
        let weight = i64::try_from(self.nodes - before.1).unwrap_or(i64::MAX);
        let range = std::mem::take(&mut comprehension.iter_range);
        comprehension.iter_range = call("@each", range, weight);
    }

    fn check_name(&mut self, name: &str) {
        if self.variables.iter().any(|known| known == name) || TYPES.contains(&name) {
            return;
        }
        let hint = if self.names.steps.contains_key(name) {
            format!("write `steps.{name}.output`")
        } else if self.names.inputs.iter().any(|input| input == name) {
            format!("write `inputs.{name}`")
        } else if let Some(meant) = nearest(
            name,
            self.names.known().map(|name| -> &str { name }).chain(self.variables.iter().map(String::as_str)),
        ) {
            format!("did you mean `{meant}`?")
        } else {
            format!("an expression can read {} here; put text into quotes", list(self.names.known()))
        };
        self.problems.push(Problem::new(format!("there is no `{}`", brief(name, 60)), hint));
    }
}

/// Wraps what can be slow or large inside a loop, so that it is paid for.
fn meter(node: &mut IdedExpr) {
    let cost = match &node.expr {
        Expr::Call(inner) if inner.func_name == "matches" => MATCHES_COST,
        Expr::Call(inner) if inner.func_name == operators::ADD => 1,
        _ => return,
    };
    let inner = std::mem::take(node);
    *node = call("@spend", inner, cost);
}

fn call(name: &str, value: IdedExpr, number: i64) -> IdedExpr {
    let number = IdedExpr { id: value.id, expr: Expr::Literal(LiteralValue::Int(number.into())) };
    IdedExpr {
        id: value.id,
        expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args: vec![value, number] }),
    }
}
