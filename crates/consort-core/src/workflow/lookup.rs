//! Values inside JSON text, found without building the rest.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::suggest;

/// Longest list or object that an expression may work on.
pub(super) const LIST_LIMIT: usize = 100_000;

/// A step on the way into a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |key: &str| {
            key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        match self {
            Segment::Key(key) if plain(key) => write!(f, ".{key}"),
            Segment::Key(key) => write!(f, "['{key}']"),
            Segment::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The value at a path in JSON text; `None` if there is none. The error says why the value cannot be used.
pub(super) fn at<'de, T: Deserialize<'de>>(text: &'de str, path: &[Segment]) -> Result<Option<T>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk(path, PhantomData).deserialize(&mut deserializer).map_err(|error| error.to_string())
}

/// Why there is nothing at a path, naming the first part that is missing.
pub(super) fn why_missing(text: &str, root: &str, path: &[Segment]) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(text) else {
        return format!("`{root}` is not JSON");
    };
    let mut walked = root.to_owned();
    for segment in path {
        let next = match (segment, &mut value) {
            (Segment::Key(key), serde_json::Value::Object(map)) => map.remove(key),
            (Segment::Index(index), serde_json::Value::Array(list)) => {
                list.get_mut(*index).map(serde_json::Value::take)
            }
            _ => None,
        };
        let Some(next) = next else {
            let has = match &value {
                serde_json::Value::Null => "is null".to_owned(),
                serde_json::Value::Bool(_) => "is a bool".to_owned(),
                serde_json::Value::Number(_) => "is a number".to_owned(),
                serde_json::Value::String(_) => "is a text".to_owned(),
                serde_json::Value::Array(list) => format!("is a list of {}", list.len()),
                serde_json::Value::Object(map) => format!("has {}", suggest::list(map.keys().map(String::as_str))),
            };
            return format!("there is no `{walked}{segment}`; `{walked}` {has}");
        };
        walked += &segment.to_string();
        value = next;
    }
    format!("there is no `{walked}`")
}

struct Walk<'p, T>(&'p [Segment], PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Walk<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        if self.0.is_empty() { T::deserialize(deserializer).map(Some) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Walk<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &self.0[0] {
                Segment::Key(wanted) if key.0 == wanted.as_str() => {
                    found = map.next_value_seed(Walk(&self.0[1..], PhantomData))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        if let Segment::Index(wanted) = &self.0[0] {
            for _ in 0..*wanted {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = list.next_element_seed(Walk(&self.0[1..], PhantomData))?.flatten();
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// Text, borrowed from the JSON where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

fn cel_text(text: Cow<'_, str>) -> CelString<'_> {
    match text {
        Cow::Borrowed(text) => CelString::from(text),
        Cow::Owned(text) => CelString::from(text),
    }
}

/// A JSON value as CEL sees it. Integers are CEL's `int` (CEL's own JSON would make positive ones `uint`, which `int` arithmetic
/// refuses); only what does not fit is `uint`. Texts are borrowed, so that copies of a value are cheap.
pub(super) struct Bound<'de>(pub Box<dyn Val + 'de>);

impl<'de> Deserialize<'de> for Bound<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bound<'de>, D::Error> {
        deserializer.deserialize_any(BoundVisitor)
    }
}

struct BoundVisitor;

impl<'de> Visitor<'de> for BoundVisitor {
    type Value = Bound<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bound<'de>, A::Error> {
        let mut entries: HashMap<CelMapKey<'de>, Box<dyn Val + 'de>> = HashMap::new();
        while let Some((key, value)) = map.next_entry::<Text<'de>, Bound<'de>>()? {
            entries.insert(CelMapKey::String(cel_text(key.0)), value.0);
            if entries.len() > LIST_LIMIT {
                return Err(A::Error::custom(format!("an object has more than {LIST_LIMIT} members")));
            }
        }
        Ok(Bound(Box::new(CelMap::from(entries))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bound<'de>, A::Error> {
        let mut items: Vec<Box<dyn Val + 'de>> = Vec::new();
        while let Some(item) = list.next_element::<Bound<'de>>()? {
            items.push(item.0);
            if items.len() > LIST_LIMIT {
                return Err(A::Error::custom(format!("a list has more than {LIST_LIMIT} items")));
            }
        }
        Ok(Bound(Box::new(CelList::from(items))))
    }

    fn visit_unit<E: Error>(self) -> Result<Bound<'de>, E> {
        Ok(Bound(Box::new(CelNull)))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Bound<'de>, E> {
        Ok(Bound(Box::new(CelBool::from(flag))))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Bound<'de>, E> {
        Ok(Bound(Box::new(CelInt::from(number))))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Bound<'de>, E> {
        Ok(match i64::try_from(number) {
            Ok(number) => Bound(Box::new(CelInt::from(number))),
            Err(_) => Bound(Box::new(CelUInt::from(number))),
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Bound<'de>, E> {
        Ok(Bound(Box::new(CelDouble::from(number))))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Bound<'de>, E> {
        Ok(Bound(Box::new(CelString::from(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bound<'de>, E> {
        Ok(Bound(Box::new(CelString::from(text.to_owned()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Json;

    #[test]
    fn values_are_found_where_they_are() {
        let text = r#"{"a": [1, {"b\n": "x"}], "a b": {"c": null}, "d": 1, "d": 2}"#;
        let key = |k: &str| Segment::Key(k.to_owned());
        for (path, expected) in [
            (vec![key("a"), Segment::Index(1), key("b\n")], Some("\"x\"")),
            (vec![key("a"), Segment::Index(1)], Some(r#"{"b\n": "x"}"#)),
            (vec![key("a b"), key("c")], Some("null")),
            (vec![key("d")], Some("2")),
            (vec![key("a"), Segment::Index(2)], None),
            (vec![key("a"), key("b")], None),
            (vec![key("d"), key("b")], None),
            (vec![key("x")], None),
        ] {
            let found = at::<Json>(text, &path).unwrap();
            assert_eq!(found.as_ref().map(Json::as_str), expected, "{path:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = r#"{"a": {"b": [1]}, "c": null}"#;
        let path = |keys: &[&str]| keys.iter().map(|k| Segment::Key((*k).to_owned())).collect::<Vec<_>>();
        assert_eq!(why_missing(text, "inputs", &path(&["x", "y"])), "there is no `inputs.x`; `inputs` has `a` and `c`");
        assert_eq!(why_missing(text, "inputs", &path(&["c", "y"])), "there is no `inputs.c.y`; `inputs.c` is null");
        assert_eq!(
            why_missing(text, "inputs", &path(&["a", "b", "-"])),
            "there is no `inputs.a.b['-']`; `inputs.a.b` is a list of 1"
        );
    }
}
