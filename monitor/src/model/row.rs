//! The recorded form of an event: its fields by catalogue name, as rule tests, `record` and
//! `backtest` write and read them, one JSON object a line.
//!
//! ```json
//! {"evt.kind":"flow","evt.time_ns":1000000000,"workload.id":"k8s:1","net.dst.ip":"198.51.100.2"}
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value as Json};
use thiserror::Error;

use super::{BootNs, CATALOGUE, EventKind, Facts, FieldId, FieldType, Value};

/// Why a recorded line is not an event.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RowError {
    /// No `evt.kind`.
    #[error(
        "`evt.kind` is missing; expected one of {}",
        EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
    )]
    NoKind,
    /// An `evt.kind` that does not exist.
    #[error("unknown event kind `{0}`")]
    UnknownKind(String),
    /// A field that is not in the catalogue.
    #[error("unknown field `{0}`")]
    UnknownField(String),
    /// A value of the wrong type.
    #[error("field `{field}` takes {expected}, not `{found}`")]
    WrongType {
        /// The field's name.
        field: &'static str,
        /// The catalogue's type.
        expected: FieldType,
        /// The value as written.
        found: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Box<str>),
    Ip(IpAddr),
    List(Box<[String]>),
    #[expect(clippy::box_collection, reason = "the other values would be as large as a map")]
    Map(Box<BTreeMap<String, String>>),
}

const _: () = assert!(size_of::<Owned>() == 24, "reading a row is a matter of cache lines");

/// An owned event: every field that is present, by catalogue position.
#[derive(Clone, Debug, PartialEq)]
pub struct FactRow {
    kind: EventKind,
    time: BootNs,
    ids: Box<[FieldId]>,
    values: Box<[Owned]>,
    places: Places,
}

/// For each field of the catalogue its place among those that are present: rules ask for the same
/// few fields again and again.
#[derive(Clone, Debug, PartialEq)]
struct Places(Box<[u8]>);

/// The place of a field that is missing.
const NOWHERE: u8 = u8::MAX;

const _: () = assert!(CATALOGUE.len() <= NOWHERE as usize, "a place fits a byte");

impl Places {
    fn of(ids: &[FieldId]) -> Self {
        let mut places = vec![NOWHERE; CATALOGUE.len()];
        for (at, id) in ids.iter().enumerate() {
            places[*id as usize] = u8::try_from(at).unwrap_or(NOWHERE);
        }
        Self(places.into())
    }
}

impl FactRow {
    /// Copies every field that `facts` has; kind and time are kept as such and not as fields.
    pub fn snapshot(facts: &(impl Facts + ?Sized)) -> Self {
        let fields: Vec<_> = CATALOGUE
            .iter()
            .filter(|field| !matches!(field.id, FieldId::EvtKind | FieldId::EvtTimeNs))
            .filter_map(|field| own(facts.field(field.id)).map(|value| (field.id, value)))
            .collect();
        Self::of(facts.kind(), facts.time(), fields)
    }

    fn of(kind: EventKind, time: BootNs, fields: Vec<(FieldId, Owned)>) -> Self {
        let (ids, values): (Vec<FieldId>, Vec<Owned>) = fields.into_iter().unzip();
        let places = Places::of(&ids);
        Self { kind, time, ids: ids.into(), values: values.into(), places }
    }

    /// The same event at another time.
    #[must_use]
    pub fn at(self, time: BootNs) -> Self {
        Self { time, ..self }
    }

    /// Moves the event to another time.
    pub fn move_to(&mut self, time: BootNs) {
        self.time = time;
    }

    /// Reads a row from a JSON object. `evt.time_ns` defaults to zero.
    pub fn from_json(object: &Map<String, Json>) -> Result<Self, RowError> {
        let kind = match object.get("evt.kind") {
            Some(Json::String(name)) => {
                EventKind::from_name(name).ok_or_else(|| RowError::UnknownKind(name.clone()))?
            }
            Some(_) | None => return Err(RowError::NoKind),
        };
        let time = BootNs(object.get("evt.time_ns").and_then(Json::as_u64).unwrap_or(0));
        let mut fields = Vec::with_capacity(object.len());
        for (name, json) in object {
            let id =
                FieldId::from_name(name).ok_or_else(|| RowError::UnknownField(name.clone()))?;
            if json.is_null() || matches!(id, FieldId::EvtKind | FieldId::EvtTimeNs) {
                continue;
            }
            fields.push((id, parse(id, json)?));
        }
        fields.sort_by_key(|(id, _)| *id);
        Ok(Self::of(kind, time, fields))
    }

    /// Writes the row as a JSON object, `evt.kind` and `evt.time_ns` included.
    pub fn to_json(&self) -> Map<String, Json> {
        let mut object = Map::new();
        object.insert("evt.kind".into(), self.kind.as_str().into());
        object.insert("evt.time_ns".into(), self.time.0.into());
        for (id, value) in self.ids.iter().zip(&self.values) {
            if matches!(id, FieldId::EvtKind | FieldId::EvtTimeNs) {
                continue;
            }
            object.insert(id.name().into(), json(value));
        }
        object
    }
}

impl Facts for FactRow {
    fn kind(&self) -> EventKind {
        self.kind
    }

    fn time(&self) -> BootNs {
        self.time
    }

    fn field(&self, id: FieldId) -> Value<'_> {
        match id {
            FieldId::EvtKind => return Value::Str(self.kind.as_str()),
            FieldId::EvtTimeNs => {
                return Value::Int(i64::try_from(self.time.0).unwrap_or(i64::MAX));
            }
            _ => {}
        }
        let place = self.places.0[id as usize];
        self.values.get(usize::from(place)).map_or(Value::Missing, borrow)
    }
}

fn own(value: Value<'_>) -> Option<Owned> {
    Some(match value {
        Value::Missing => return None,
        Value::Bool(truth) => Owned::Bool(truth),
        Value::Int(number) => Owned::Int(number),
        Value::Float(number) => Owned::Float(number),
        Value::Str(text) => Owned::Str(text.into()),
        Value::Ip(ip) => Owned::Ip(ip),
        Value::List(list) => Owned::List(list.into()),
        Value::Map(map) => Owned::Map(Box::new(map.clone())),
    })
}

fn borrow(value: &Owned) -> Value<'_> {
    match value {
        Owned::Bool(truth) => Value::Bool(*truth),
        Owned::Int(number) => Value::Int(*number),
        Owned::Float(number) => Value::Float(*number),
        Owned::Str(text) => Value::Str(text),
        Owned::Ip(ip) => Value::Ip(*ip),
        Owned::List(list) => Value::List(list),
        Owned::Map(map) => Value::Map(map),
    }
}

fn json(value: &Owned) -> Json {
    match value {
        Owned::Bool(truth) => (*truth).into(),
        Owned::Int(number) => (*number).into(),
        Owned::Float(number) => (*number).into(),
        Owned::Str(text) => (**text).into(),
        Owned::Ip(ip) => ip.to_string().into(),
        Owned::List(list) => list.as_ref().into(),
        Owned::Map(map) => {
            Json::Object(map.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect())
        }
    }
}

fn parse(id: FieldId, json: &Json) -> Result<Owned, RowError> {
    let wrong = || RowError::WrongType {
        field: id.name(),
        expected: id.field_type(),
        found: json.to_string(),
    };
    let text = |json: &Json| json.as_str().map(str::to_owned);
    let owned = match id.field_type() {
        FieldType::Bool => json.as_bool().map(Owned::Bool),
        FieldType::Int => json.as_i64().map(Owned::Int),
        FieldType::Float => json.as_f64().map(Owned::Float),
        FieldType::Str => text(json).map(|text| Owned::Str(text.into())),
        FieldType::Ip => text(json).and_then(|text| text.parse().ok()).map(Owned::Ip),
        FieldType::List => json
            .as_array()
            .and_then(|items| items.iter().map(text).collect::<Option<Box<[_]>>>())
            .map(Owned::List),
        FieldType::Map => json
            .as_object()
            .and_then(|map| map.iter().map(|(k, v)| Some((k.clone(), text(v)?))).collect())
            .map(|map| Owned::Map(Box::new(map))),
    };
    owned.ok_or_else(wrong)
}
