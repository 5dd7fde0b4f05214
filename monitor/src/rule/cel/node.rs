//! A checked condition: a typed tree. Every type error has been found before one of these exists,
//! so evaluation only has CEL's run-time errors left (missing, overflow, division by zero, index).

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use globset::GlobMatcher;
use hashbrown::HashSet;
use memchr::memmem::Finder;
use regex::Regex;

use crate::model::FieldId;
use crate::rule::net::NetSet;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// An operation on numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// A test of one text by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

/// A variable of the correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Var {
    Count,
    Sum,
    Distinct,
}

/// The larger or the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extreme {
    Max,
    Min,
}

/// A truth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Truth {
    Const(bool),
    Field(FieldId),
    Not(Box<Self>),
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Pick(Box<[Self; 3]>),
    Same(Box<[Self; 2]>),
    Int(Compare, Box<[Int; 2]>),
    /// `field op constant`: the most frequent test, without a walk.
    IntIs(FieldId, Compare, i64),
    Float(Compare, Box<[Float; 2]>),
    FloatIs(FieldId, Compare, f64),
    Mixed(Compare, Box<(Int, Float)>),
    Text(Compare, Box<[Text; 2]>),
    /// `field == constant`.
    TextIs(FieldId, Box<str>),
    TextIn(Box<Text>, Box<TextSet>),
    TextInList(Box<Text>, List),
    IntIn(Box<Int>, Box<[i64]>),
    FloatIn(Box<Float>, Box<[f64]>),
    IpSame(FieldId, FieldId),
    IpIn(FieldId, NetSet),
    KeyIn(Box<Text>, FieldId),
    Has(FieldId),
    HasKey(FieldId, Box<str>),
    Part(TextTest, Box<[Text; 2]>),
    /// `contains` with a constant.
    Finds(Box<Text>, Needle),
    /// `contains` with any of several constants: one pass for all of them.
    FindsAny(Box<Text>, Needles),
    /// `endsWith` with any of several constants, without a walk for each.
    EndsAny(Box<Text>, Endings),
    /// `startsWith` with any of several constants, without a walk for each.
    StartsAny(Box<Text>, Box<[Box<str>]>),
    Matches(Box<Text>, Pattern),
    Glob(Box<Text>, Glob),
    Exists(List, Box<Self>),
    Every(List, Box<Self>),
}

/// A whole number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Int {
    Const(i64),
    Field(FieldId),
    Var(Var),
    Neg(Box<Self>),
    Op(Arith, Box<[Self; 2]>),
    Size(Sized),
    Extreme(Extreme, Box<[Self]>),
    Pick(Box<(Truth, Self, Self)>),
}

/// What has a size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sized {
    Text(Box<Text>),
    List(List),
    Map(FieldId),
}

/// A number with a fraction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Float {
    Const(f64),
    Field(FieldId),
    Int(Box<Int>),
    Neg(Box<Self>),
    Op(Arith, Box<[Self; 2]>),
    Extreme(Extreme, Box<[Self]>),
    Pick(Box<(Truth, Self, Self)>),
}

/// A text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Text {
    Const(Box<str>),
    Field(FieldId),
    /// The item of the loop this many levels out.
    Item(usize),
    Key(FieldId, Box<Self>),
    At(List, Box<Int>),
    Lower(Box<Self>),
    Join(Box<[Self; 2]>),
    Pick(Box<(Truth, Self, Self)>),
}

/// A list of text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum List {
    Field(FieldId),
    Const(Box<[String]>),
}

/// A set of constant texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TextSet {
    /// Few: comparing lengths and bytes in turn is faster than hashing.
    Few(Box<[Box<str>]>),
    Many(HashSet<Box<str>>),
}

/// Most texts that are searched one by one.
pub(crate) const TEXT_SET_FEW_MAX: usize = 8;

impl TextSet {
    pub(crate) fn of(texts: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<Box<str>> = texts.into_iter().map(String::into_boxed_str).collect();
        all.sort_unstable();
        all.dedup();
        if all.len() <= TEXT_SET_FEW_MAX {
            Self::Few(all.into())
        } else {
            Self::Many(all.into_iter().collect())
        }
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        match self {
            Self::Few(texts) => texts.iter().any(|known| **known == *text),
            Self::Many(texts) => texts.contains(text),
        }
    }

    /// The texts.
    pub(crate) fn texts(&self) -> BTreeSet<Box<str>> {
        match self {
            Self::Few(texts) => texts.iter().cloned().collect(),
            Self::Many(texts) => texts.iter().cloned().collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few(texts) => texts.is_empty(),
            Self::Many(texts) => texts.is_empty(),
        }
    }
}

/// A regular expression, equal when its text is.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A constant text to search for, equal when its text is.
#[derive(Clone, Debug)]
pub(crate) struct Needle(pub(crate) Box<Finder<'static>>, Box<str>);

impl Needle {
    pub(crate) fn of(text: &str) -> Self {
        Self(Box::new(Finder::new(text).into_owned()), text.into())
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.1
    }
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

/// Constant texts to search for at once, equal when their texts are.
#[derive(Clone, Debug)]
pub(crate) struct Needles {
    texts: BTreeSet<Box<str>>,
    automaton: Arc<AhoCorasick>,
}

impl Needles {
    /// `None` when the automaton would be too large.
    pub(crate) fn of(texts: BTreeSet<Box<str>>) -> Option<Self> {
        let automaton = AhoCorasick::new(texts.iter().map(|text| text.as_bytes())).ok()?;
        Some(Self { texts, automaton: Arc::new(automaton) })
    }

    /// Whether `text` contains one of them.
    pub(crate) fn find(&self, text: &str) -> bool {
        self.automaton.is_match(text)
    }

    /// The texts.
    pub(crate) fn texts(&self) -> BTreeSet<Box<str>> {
        self.texts.clone()
    }
}

impl PartialEq for Needles {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

/// Constant texts of which one may be the end of another text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Endings {
    /// Each is a slash and a name without one, as lists of programs are: only the last part of a
    /// path can be such an end, and it is looked up.
    Names(TextSet),
    /// Any others.
    Texts(Box<[Box<str>]>),
}

impl Endings {
    pub(crate) fn of(texts: &[String]) -> Self {
        let is_name = |text: &String| text.starts_with('/') && !text[1..].contains('/');
        if texts.iter().all(is_name) {
            Self::Names(TextSet::of(texts.iter().cloned()))
        } else {
            Self::Texts(texts.iter().map(|text| text.as_str().into()).collect())
        }
    }

    /// Whether `text` ends with one of them.
    pub(crate) fn find(&self, text: &str) -> bool {
        match self {
            Self::Names(names) => {
                let slash = memchr::memrchr(b'/', text.as_bytes());
                slash.is_some_and(|slash| names.contains(&text[slash..]))
            }
            Self::Texts(texts) => texts.iter().any(|end| text.ends_with(&**end)),
        }
    }
}

/// A glob, equal when its text is.
#[derive(Clone, Debug)]
pub(crate) struct Glob(pub(crate) GlobMatcher);

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

/// An expression of any type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Typed {
    Truth(Truth),
    Int(Int),
    Float(Float),
    Text(Text),
    Ip(FieldId),
    List(List),
    /// A list of constants that are not all text.
    Numbers {
        ints: Vec<i64>,
        floats: Vec<f64>,
    },
    Map(FieldId),
    Nets(NetSet),
}

impl Typed {
    /// The type's name in messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Truth(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "string",
            Self::Ip(_) => "ip",
            Self::List(_) => "list of strings",
            Self::Numbers { .. } => "list of numbers",
            Self::Map(_) => "map of strings",
            Self::Nets(_) => "cidr",
        }
    }
}
