//! Random conditions over random events: our evaluation and the `cel` interpreter's must agree on
//! true, false and error.

use std::sync::Arc;

use cel::{Context as CelContext, Env, Value};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::{Condition, Context, Names, Scene};
use crate::model::{FactRow, KindSet};
use crate::rule::diagnostic::{Document, Located, Sink, Span};
use crate::rule::spec::Vars;

/// Fields the conditions speak of, by type.
const INTS: [&str; 4] = ["net.dst.port", "proc.uid", "net.bytes_out", "file.size_bytes"];
const FLOATS: [&str; 2] = ["proc.age_seconds", "gpu.util"];
const TEXTS: [&str; 3] = ["proc.name", "net.dst.name", "proc.cwd"];
const TRUTHS: [&str; 2] = ["net.allowed", "file.write"];
const WORDS: [&str; 8] = ["a", "B", "ab", "éB", "", "/a", "/ab", "x/ab"];

fn pick(all: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(all).prop_map(str::to_owned)
}

fn quoted() -> impl Strategy<Value = String> + Clone {
    prop::sample::select(&WORDS[..]).prop_map(|word| format!("'{word}'"))
}

type Source = BoxedStrategy<String>;

/// Expressions of one depth, by type; `loops` is whether `v` is a loop variable here.
struct Grammar {
    truth: Source,
    int: Source,
    float: Source,
    text: Source,
}

fn leaves() -> Grammar {
    let int = prop_oneof![
        pick(&INTS),
        (-3_i64..4).prop_map(|number| format!("({number})")),
        Just("9223372036854775807".to_owned()),
        Just("proc.name.size()".to_owned()),
        Just("size(proc.args)".to_owned()),
        Just("size(k8s.labels)".to_owned()),
        Just("size('aéb')".to_owned()),
        Just("2.kib".to_owned()),
    ];
    let float = prop_oneof![pick(&FLOATS), pick(&["1.5", "0.0", "(-2.25)", "443.0", "1e300"])];
    let text = prop_oneof![
        pick(&TEXTS),
        quoted(),
        (-1_i64..3).prop_map(|at| format!("proc.args[{at}]")),
        pick(&["k8s.labels['a']", "k8s.labels.app", "k8s.labels[proc.name]"]),
        pick(&["proc.args[size(proc.args) - 1]", "proc.ancestors[net.dst.port]"]),
    ];
    let truth = prop_oneof![
        pick(&TRUTHS),
        pick(&["true", "false", "has(proc.name)", "has(net.dst.port)", "has(k8s.labels.app)"]),
        pick(&["has(net.allowed)", "has(proc.args)", "('a' in k8s.labels)", "('ab' in proc.args)"]),
    ];
    Grammar { truth: truth.boxed(), int: int.boxed(), float: float.boxed(), text: text.boxed() }
}

/// Loops, several searches of one text, and tests of presence.
fn sequences(text: &Source, truth: &Source) -> Source {
    let tests = pick(&["contains", "startsWith", "endsWith"]);
    let looped = (pick(&["exists", "all"]), tests.clone(), quoted(), truth.clone()).prop_map(
        |(kind, test, word, also)| format!("proc.args.{kind}(v, v.{test}({word}) || {also})"),
    );
    // Several searches of one text are one pass for us, and so are those of a list.
    let searched =
        (pick(&TEXTS), quoted(), quoted(), truth.clone()).prop_map(|(text, one, two, also)| {
            format!("({text}.contains({one}) || {also} || {text}.contains({two}))")
        });
    let listed = (pick(&["exists", "all"]), pick(&TEXTS), tests.clone(), quoted(), quoted())
        .prop_map(|(kind, text, test, one, two)| {
            format!("[{one}, {two}].{kind}(v, {text}.{test}(v))")
        });
    let present = (pick(&["net.allowed", "proc.name", "k8s.labels.a", "gpu.util"]), truth.clone())
        .prop_map(|(field, also)| format!("(has({field}) && {also} || !has({field}))"));
    let nested = (pick(&["exists", "all"]), pick(&["exists", "all"])).prop_map(|(one, two)| {
        format!("proc.args.{one}(v, proc.ancestors.{two}(w, w == v || v.startsWith(w)))")
    });
    let member = (text.clone(), pick(&["k8s.labels", "proc.ancestors"]))
        .prop_map(|(text, set)| format!("({text} in {set})"));
    prop_oneof![looped, nested, searched, listed, present, member].boxed()
}

fn deeper(inner: &Grammar) -> Grammar {
    let Grammar { truth, int, float, text } = inner;
    let compare = || pick(&["==", "!=", "<", "<=", ">", ">="]);
    let chosen = |of: &Source| {
        (truth.clone(), of.clone(), of.clone())
            .prop_map(|(test, yes, no)| format!("({test} ? {yes} : {no})"))
    };
    let binary = |ops: &'static [&'static str], of: &Source| {
        (of.clone(), pick(ops), of.clone())
            .prop_map(|(left, op, right)| format!("({left} {op} {right})"))
    };
    let compared = |left: &Source, right: &Source| {
        (left.clone(), compare(), right.clone())
            .prop_map(|(left, op, right)| format!("({left} {op} {right})"))
    };
    let int_deep = prop_oneof![
        2 => int.clone(),
        2 => binary(&["+", "-", "*", "/", "%"], int),
        1 => int.clone().prop_map(|number| format!("(-{number})")),
        1 => chosen(int),
    ];
    let float_deep = prop_oneof![
        2 => float.clone(),
        2 => binary(&["+", "-", "*", "/"], float),
        1 => chosen(float),
    ];
    let text_deep = prop_oneof![
        3 => text.clone(),
        1 => binary(&["+"], text),
        1 => text.clone().prop_map(|text| format!("{text}.lowerAscii()")),
        1 => chosen(text),
    ];
    let tests = pick(&["contains", "startsWith", "endsWith"]);
    let sequences = sequences(text, truth);
    let truth_deep = prop_oneof![
        4 => binary(&["&&", "||"], truth),
        1 => binary(&["==", "!="], truth),
        1 => truth.clone().prop_map(|truth| format!("!{truth}")),
        1 => chosen(truth),
        1 => compared(int, int),
        1 => compared(float, float),
        1 => compared(int, float),
        1 => compared(float, int),
        1 => compared(text, text),
        1 => (text.clone(), tests, text.clone())
            .prop_map(|(text, test, part)| format!("{text}.{test}({part})")),
        1 => (text.clone(), pick(&["^a", "b$", "[aé]B", "", "(?i)AB"]))
            .prop_map(|(text, pattern)| format!("{text}.matches('{pattern}')")),
        1 => (text.clone(), prop::collection::vec(quoted(), 1..12))
            .prop_map(|(text, set)| format!("({text} in [{}])", set.join(", "))),
        1 => text.clone().prop_map(|text| format!("({text} in proc.args)")),
        1 => int.clone().prop_map(|number| format!("({number} in [1, 443, -3, 2.0])")),
        1 => float.clone().prop_map(|number| format!("({number} in [1.5, 443, 0])")),
        4 => sequences,
        1 => (text.clone(), pick(&["^a", "B$"]))
            .prop_map(|(text, pattern)| format!("matches({text}, '{pattern}')")),
    ];
    Grammar {
        truth: truth_deep.boxed(),
        int: int_deep.boxed(),
        float: float_deep.boxed(),
        text: text_deep.boxed(),
    }
}

fn condition() -> Source {
    let one = deeper(&leaves());
    let two = deeper(&one);
    prop_oneof![one.truth.clone(), two.truth.clone(), deeper(&two).truth].boxed()
}

/// An event in which each field may be missing.
fn event() -> impl Strategy<Value = Map<String, Json>> {
    fn maybe<T: Into<Json> + std::fmt::Debug>(
        of: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Option<Json>> {
        prop::option::weighted(0.7, of.prop_map(Into::into))
    }
    let word = || prop::sample::select(&WORDS[..]);
    let list = || prop::collection::vec(word(), 0..3).prop_map(|words| json!(words));
    let number = || prop_oneof![-3_i64..4, Just(443), Just(2048), Just(i64::MAX), Just(i64::MIN)];
    let float = || prop::sample::select(&[0.0, 1.5, -2.25, 443.0, 1e300, 2048.0][..]);
    let labels = prop::collection::btree_map(prop::sample::select(&["a", "app"][..]), word(), 0..3)
        .prop_map(|labels| json!(labels));
    let fields = (
        (maybe(number()), maybe(number()), maybe(number()), maybe(number())),
        (maybe(float()), maybe(float()), maybe(any::<bool>()), maybe(any::<bool>())),
        (maybe(word()), maybe(word()), maybe(word())),
        (maybe(list()), maybe(list()), maybe(labels)),
    );
    fields.prop_map(|(ints, mixed, texts, rest)| {
        let pairs = [
            (INTS[0], ints.0),
            (INTS[1], ints.1),
            (INTS[2], ints.2),
            (INTS[3], ints.3),
            (FLOATS[0], mixed.0),
            (FLOATS[1], mixed.1),
            (TRUTHS[0], mixed.2),
            (TRUTHS[1], mixed.3),
            (TEXTS[0], texts.0),
            (TEXTS[1], texts.1),
            (TEXTS[2], texts.2),
            ("proc.args", rest.0),
            ("proc.ancestors", rest.1),
            ("k8s.labels", rest.2),
        ];
        let present = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        present.map(|(name, value)| (name.to_owned(), value)).collect()
    })
}

/// The interpreter's answer; `None` is an error.
fn oracle(condition: &str, event: &Map<String, Json>) -> Option<bool> {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings).expect("the extension with lowerAscii");
    let program = env.compile(condition).expect("our grammar is CEL");
    let mut context = CelContext::with_env(Arc::new(env));
    let mut tree = json!({"proc": {}, "net": {"dst": {}}, "file": {}, "gpu": {}, "k8s": {}});
    for (name, value) in event {
        let (parents, last) = name.rsplit_once('.').expect("a dotted name");
        let parent = parents.split('.').fold(&mut tree, |at, part| &mut at[part]);
        parent[last] = value.clone();
    }
    for (family, value) in tree.as_object().expect("an object") {
        context.add_variable_from_value(family.as_str(), convert(value));
    }
    match program.execute(&context) {
        Ok(Value::Bool(truth)) => Some(truth),
        Ok(other) => panic!("{condition} is {other:?}"),
        Err(_) => None,
    }
}

fn convert(json: &Json) -> Value {
    match json {
        Json::Bool(truth) => (*truth).into(),
        Json::Number(number) => match number.as_i64() {
            Some(int) if number.is_i64() || number.is_u64() => int.into(),
            _ => number.as_f64().expect("a float").into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(convert).collect::<Vec<Value>>().into(),
        Json::Object(map) => {
            let pairs = map.iter().map(|(key, value)| (key.clone(), convert(value)));
            pairs.collect::<std::collections::HashMap<String, Value>>().into()
        }
        Json::Null => Value::Null,
    }
}

/// Our answer; `None` is an error. The outer `None` is a condition refused at load.
#[expect(clippy::option_option, reason = "refused at load is not an error at an event")]
fn ours(condition: &str, event: &Map<String, Json>) -> Option<Option<bool>> {
    let text: Arc<str> = condition.into();
    let span = Span { document: 0, start: 0, end: text.len() };
    let sink = Sink::new(vec![Document { name: "c".into(), text }]);
    let names = Names::default();
    let context = Context { sink: &sink, names: &names, kinds: KindSet::ALL, vars: &[] };
    let located = Located { value: condition.to_owned(), span };
    let Ok(checked) = Condition::of(&located, &context) else {
        let refused = sink.finish().to_string();
        assert!(refused.contains("overflows or divides by zero"), "{refused}");
        return None;
    };
    let mut event = event.clone();
    event.insert("evt.kind".into(), "flow".into());
    let row = FactRow::from_json(&event).expect("an event");
    let scene = Scene { facts: &row, vars: &Vars::default(), item: None };
    let truth = checked.truth.eval(&scene).ok();
    assert_eq!(checked.truth.holds(&scene), truth == Some(true), "{condition}");
    if truth == Some(true) {
        for guard in checked.guards() {
            assert!(guard.admits(&row), "{condition} is true, but {guard:?} is not met");
        }
    }
    Some(truth)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn conditions_mean_what_cel_says(condition in condition(), event in event()) {
        // Units are an addition of ours.
        let plain = condition.replace("2.kib", "2048");
        if let Some(truth) = ours(&condition, &event) {
            prop_assert_eq!(truth, oracle(&plain, &event), "{}", condition);
        }
    }
}
