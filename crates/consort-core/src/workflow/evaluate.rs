//! Runs a compiled expression and writes its value as JSON.
//!
//! CEL has no limit of cost, so loops are paid for: `@each` (once per loop) and `@spend` (for what is slow or grows) take from a
//! budget of evaluated nodes, and the written value has a largest size.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMapKey, CelNull, CelUInt};
use cel::common::value::{BuiltinRef, CowVal, Val};
use cel::extractors::IntoFunction;
use cel::{Context, Env, ExecutionError, FunctionContext, IdedExpr, Value};

use super::expression::{Path, Root};
use super::lookup::{self, Bound, LIST_LIMIT};
use super::suggest::brief;
use crate::data::Json;

/// Nodes that the loops of one evaluation may evaluate or copy; around half a second of work.
const BUDGET: i64 = 2_000_000;
/// Longest value an expression may yield, in bytes of JSON.
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

/// The standard library; immutable, and costly to build.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

type Native = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        ) -> Result<CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

/// Evaluates a tree and appends its value to `out` as JSON. `texts` are the values of `roots`. The error is the reason.
pub(super) fn run(
    tree: &IdedExpr,
    paths: &[Path],
    roots: &[Root],
    texts: &[Json],
    out: &mut String,
) -> Result<(), String> {
    let mut context = Context::with_env(ENV.clone());
    for (number, path) in paths.iter().enumerate() {
        // What is missing stays unbound, so that `has()` and `||` around it can still decide.
        if let Some(value) = lookup::at::<Bound<'_>>(texts[path.root].as_str(), &path.segments)? {
            context.add_variable_as_val(format!("@{number}"), value.0);
        }
    }
    let budget = Arc::new(AtomicI64::new(BUDGET));
    context.add_function("@each", each(budget.clone())).expect("no overload begins with @");
    context.add_function("@spend", spend(budget)).expect("no overload begins with @");
    let value = Value::resolve_val(tree, &context).map_err(|error| explain(&error, paths, roots, texts))?;
    write(value.as_ref(), out, out.len().saturating_add(OUTPUT_LIMIT))
}

/// `@each(range, weight)`: pays for a loop over the range and gives the range; the keys of a map in order, so that a value does not
/// depend on the order of a hash table.
fn each(budget: Arc<AtomicI64>) -> Native {
    native(move |range, weight| {
        let (length, sorted) = match range.as_builtin() {
            BuiltinRef::List(list) => (list.inner().len(), None),
            BuiltinRef::Map(map) => {
                let mut keys: Vec<CelMapKey<'_>> = map.inner().keys().cloned().collect();
                keys.sort_by_cached_key(key_text);
                (keys.len(), Some(CelList::from(keys.into_iter().map(key_value).collect::<Vec<_>>())))
            }
            _ => return Ok(range),
        };
        if length > LIST_LIMIT {
            return Err(limit(format!("a loop over {length} items; at most {LIST_LIMIT} are allowed")));
        }
        let items = i64::try_from(length).unwrap_or(i64::MAX);
        take(&budget, size(range.as_ref()).saturating_add(items.saturating_mul(weight)))?;
        Ok(sorted.map_or(range, CowVal::owned))
    })
}

/// `@spend(value, cost)`: pays the cost and the value's size, and gives the value.
fn spend(budget: Arc<AtomicI64>) -> Native {
    native(move |value, cost| {
        take(&budget, size(value.as_ref()).saturating_add(cost))?;
        Ok(value)
    })
}

fn native<F>(body: F) -> Native
where
    F: for<'b, 'v> Fn(CowVal<'b, 'v>, i64) -> Result<CowVal<'b, 'v>, ExecutionError> + Send + Sync + 'static,
{
    let function: Native = Box::new(move |call| {
        let number = call.args.pop().and_then(|n| n.as_ref().downcast_ref::<CelInt>().map(|n| *n.inner()));
        match (call.args.pop(), number) {
            (Some(value), Some(number)) => body(value, number),
            _ => Err(ExecutionError::MissingArgumentOrTarget),
        }
    });
    function.into_function()
}

fn take(budget: &AtomicI64, cost: i64) -> Result<(), ExecutionError> {
    if budget.fetch_sub(cost.min(BUDGET + 1), Ordering::Relaxed) < cost {
        budget.store(0, Ordering::Relaxed);
        return Err(limit("it takes too long: its loops do too much for one expression".to_owned()));
    }
    Ok(())
}

fn limit(why: String) -> ExecutionError {
    ExecutionError::InternalError(why)
}

/// Values in a value, where a long text counts for several.
fn size(value: &dyn Val) -> i64 {
    match value.as_builtin() {
        BuiltinRef::String(text) => 1 + i64::try_from(text.inner().len() / 256).unwrap_or(i64::MAX),
        BuiltinRef::Bytes(bytes) => 1 + i64::try_from(bytes.inner().len() / 256).unwrap_or(i64::MAX),
        BuiltinRef::List(list) => 1 + list.inner().iter().map(|item| size(item.as_ref())).sum::<i64>(),
        BuiltinRef::Map(map) => 1 + map.inner().values().map(|item| size(item.as_ref())).sum::<i64>(),
        _ => 1,
    }
}

/// The reason in words that name what the author wrote.
fn explain(error: &ExecutionError, paths: &[Path], roots: &[Root], texts: &[Json]) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) => {
            let number = name.strip_prefix('@').and_then(|number| number.parse::<usize>().ok());
            match number.and_then(|number| paths.get(number)) {
                Some(path) => {
                    lookup::why_missing(texts[path.root].as_str(), &roots[path.root].to_string(), &path.segments)
                }
                None => format!("there is no `{}`", brief(name, 60)),
            }
        }
        ExecutionError::NoSuchKey(key) => {
            format!("there is no key `{}`; `has()` tells whether there is one", brief(key, 60))
        }
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<&str> = overload.argument_types().iter().map(String::as_str).collect();
            no_overload(overload.function().replace('_', " ").trim(), &types)
        }
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            no_overload(operator, &[type_name(left), type_name(right)])
        }
        ExecutionError::IndexOutOfBounds(Value::Int(index)) => format!("there is no item {index} in the list"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".to_owned(),
        ExecutionError::Overflow(..) => "its value is too large for 64 bits".to_owned(),
        ExecutionError::InternalError(why) => brief(why, 300),
        other => brief(&other.to_string(), 300),
    }
}

fn no_overload(operator: &str, types: &[&str]) -> String {
    let mixed = types.contains(&"double") && types.iter().any(|name| matches!(*name, "int" | "uint"));
    let hint = if mixed { "; write `double(…)` around the integer" } else { "" };
    format!("`{operator}` does not work on {}{hint}", types.join(" and "))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        _ => "this value",
    }
}

fn write(value: &dyn Val, out: &mut String, limit: usize) -> Result<(), String> {
    if out.len() > limit {
        return Err(format!("its value has more than {OUTPUT_LIMIT} bytes"));
    }
    match value.as_builtin() {
        BuiltinRef::String(text) => write_text(text.inner(), out),
        BuiltinRef::List(list) => {
            out.push('[');
            for (number, item) in list.inner().iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write(item.as_ref(), out, limit)?;
            }
            out.push(']');
        }
        BuiltinRef::Map(map) => {
            let mut entries: Vec<(String, &dyn Val)> =
                map.inner().iter().map(|(k, v)| (key_text(k), v.as_ref())).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            out.push('{');
            for (number, (key, item)) in entries.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_text(&key, out);
                out.push(':');
                write(item, out, limit)?;
            }
            out.push('}');
        }
        _ => return write_scalar(value, out),
    }
    Ok(())
}

fn write_scalar(value: &dyn Val, out: &mut String) -> Result<(), String> {
    if value.downcast_ref::<CelNull>().is_some() {
        out.push_str("null");
    } else if let Some(flag) = value.downcast_ref::<CelBool>() {
        out.push_str(if *flag.inner() { "true" } else { "false" });
    } else if let Some(number) = value.downcast_ref::<CelInt>() {
        out.push_str(&number.inner().to_string());
    } else if let Some(number) = value.downcast_ref::<CelUInt>() {
        out.push_str(&number.inner().to_string());
    } else if let Some(number) = value.downcast_ref::<CelDouble>() {
        let number = *number.inner();
        let json = serde_json::Number::from_f64(number)
            .ok_or_else(|| format!("its value is {number}, which JSON cannot hold"))?;
        out.push_str(&json.to_string());
    } else {
        return Err(format!("its value is a {}, which JSON cannot hold", value.get_type().name()));
    }
    Ok(())
}

/// Appends a text as a JSON string.
pub(super) fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn key_text(key: &CelMapKey<'_>) -> String {
    match key {
        CelMapKey::String(text) => text.inner().to_owned(),
        CelMapKey::Bool(flag) => flag.inner().to_string(),
        CelMapKey::Int(number) => number.inner().to_string(),
        CelMapKey::UInt(number) => number.inner().to_string(),
    }
}

fn key_value<'v>(key: CelMapKey<'v>) -> Box<dyn Val + 'v> {
    match key {
        CelMapKey::String(text) => Box::new(text) as Box<dyn Val + 'v>,
        CelMapKey::Bool(flag) => Box::new(flag),
        CelMapKey::Int(number) => Box::new(number),
        CelMapKey::UInt(number) => Box::new(number),
    }
}
