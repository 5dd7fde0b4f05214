//! Rules and correlations of Sigma.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::sigma_detection::{category, detection};
use super::{IMPORT_BYTES_MAX, Import, Sheet, slug};

/// Converts the rules of some files. The error is a file that cannot be read at all.
pub fn sigma(texts: &[String]) -> Result<Import, String> {
    let mut documents: Vec<Map<String, Json>> = Vec::new();
    for text in texts {
        if text.len() > IMPORT_BYTES_MAX {
            return Err(format!("the file has more than {IMPORT_BYTES_MAX} bytes"));
        }
        let all: Vec<Json> = serde_saphyr::from_multiple(text)
            .map_err(|error| format!("not a file of Sigma rules: {}", error.without_snippet()))?;
        documents.extend(all.into_iter().filter_map(|document| match document {
            Json::Object(object) => Some(object),
            _ => None,
        }));
    }
    let mut import = Import::default();
    import.note(
        "Sigma compares text without regard to case; here case matters, as it does to Linux.",
    );
    import.note("A file is seen when it is opened for writing, not only when it is made.");
    let mut ids = BTreeSet::new();
    // What a correlation may call a rule: its `name`, its `id`, its title.
    let mut by_name: BTreeMap<String, Sheet> = BTreeMap::new();
    let (correlations, rules): (Vec<_>, Vec<_>) =
        documents.iter().partition(|document| document.contains_key("correlation"));
    for document in rules {
        let title = string(document, "title");
        match rule(document, &title) {
            Ok(mut sheet) => {
                while !ids.insert(sheet.id.clone()) {
                    sheet.id.push('x');
                }
                for key in ["name", "id", "title"] {
                    by_name.insert(string(document, key), sheet.clone());
                }
                import.sheets.push(sheet);
            }
            Err(why) => import.refuse(&title, why),
        }
    }
    for document in correlations {
        let title = string(document, "title");
        match correlation(document, &title, &by_name) {
            Ok(sheet) => {
                let generate = document.get("generate").or_else(|| {
                    document.get("correlation").and_then(|block| block.get("generate"))
                });
                if generate != Some(&Json::Bool(true)) {
                    silence(&mut import.sheets, &sheet, document, &by_name);
                }
                import.sheets.push(sheet);
            }
            Err(why) => import.refuse(&title, why),
        }
    }
    Ok(import.checked())
}

fn string(object: &Map<String, Json>, key: &str) -> String {
    object.get(key).and_then(Json::as_str).unwrap_or_default().trim().to_owned()
}

fn strings(value: Option<&Json>) -> Vec<String> {
    match value {
        Some(Json::Array(items)) => {
            items.iter().filter_map(Json::as_str).map(str::to_owned).collect()
        }
        Some(Json::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn base(document: &Map<String, Json>, title: &str) -> Sheet {
    let attack = strings(document.get("tags"))
        .iter()
        .filter_map(|tag| tag.strip_prefix("attack.t"))
        .map(|digits| format!("T{digits}"))
        .collect();
    let false_positives = strings(document.get("falsepositives"))
        .into_iter()
        .filter(|text| !text.eq_ignore_ascii_case("unknown"))
        .collect();
    let severity = match string(document, "level").as_str() {
        level @ ("low" | "medium" | "high" | "critical") => level.to_owned(),
        _ => "info".to_owned(),
    };
    Sheet {
        id: slug(title),
        origin: format!("Sigma: {title} ({})", string(document, "id")),
        title: title.to_owned(),
        severity,
        message: format!("{title}: {{{{proc.name}}}} in {{{{workload.name}}}}"),
        attack,
        false_positives,
        ..Sheet::default()
    }
}

fn rule(document: &Map<String, Json>, title: &str) -> Result<Sheet, String> {
    let source = document.get("logsource").and_then(Json::as_object);
    let source = source.ok_or("it has no `logsource`")?;
    let product = string(source, "product");
    if product != "linux" {
        return Err(format!("its product is `{product}`, not linux"));
    }
    let name = string(source, "category");
    let Some(of) = category(&name) else {
        let what = if name.is_empty() { string(source, "service") } else { name };
        return Err(format!("the log source `{what}` has no counterpart"));
    };
    let block = document.get("detection").and_then(Json::as_object);
    let when = detection(block.ok_or("it has no `detection`")?, of)?;
    Ok(Sheet { on: vec![of.kind.to_owned()], when, ..base(document, title) })
}

/// Fields by which Sigma's correlations group.
fn group(field: &str) -> Result<&'static str, String> {
    Ok(match field {
        "Image" => "proc.exe",
        "ParentImage" => "proc.parent.exe",
        "DestinationIp" => "net.dst.ip",
        "DestinationPort" => "net.dst.port",
        "TargetFilename" => "file.path",
        "Computer" | "ComputerName" | "host" | "hostname" | "host.name" => "workload.id",
        other => return Err(format!("grouping by `{other}` has no counterpart")),
    })
}

fn correlation(
    document: &Map<String, Json>,
    title: &str,
    by_name: &BTreeMap<String, Sheet>,
) -> Result<Sheet, String> {
    let block = document.get("correlation").and_then(Json::as_object);
    let block = block.ok_or("`correlation` is not a mapping")?;
    let kind = string(block, "type");
    let named = strings(block.get("rules"));
    let parts: Vec<&Sheet> = named
        .iter()
        .map(|name| by_name.get(name).ok_or_else(|| format!("the rule `{name}` was not converted")))
        .collect::<Result<_, _>>()?;
    let mut groups: Vec<&str> = strings(block.get("group-by"))
        .iter()
        .map(|field| group(field))
        .collect::<Result<_, _>>()?;
    if groups.is_empty() {
        groups.push("workload.id");
    }
    let span = string(block, "timespan");
    let mut lines = vec![format!("type: {kind}")];
    let mut sheet = base(document, title);
    match (kind.as_str(), parts.as_slice()) {
        ("event_count" | "value_count", [one]) => {
            let condition = block.get("condition").and_then(Json::as_object);
            let condition = condition.ok_or("the correlation has no condition")?;
            let variable = if kind == "event_count" { "count" } else { "distinct" };
            if kind == "value_count" {
                lines.push(format!("field: {}", group(&string(condition, "field"))?));
            }
            lines.push(format!("condition: '{}'", compare(condition, variable)?));
            sheet.on.clone_from(&one.on);
            sheet.when.clone_from(&one.when);
        }
        ("temporal" | "temporal_ordered", [_, _, ..]) => {
            let ids: Vec<String> = parts.iter().map(|part| part.id.clone()).collect();
            lines.push(format!("rules: [{}]", ids.join(", ")));
            sheet.waits_for = ids;
        }
        ("event_count" | "value_count", _) => {
            return Err("counting over several rules has no counterpart".to_owned());
        }
        (other, _) => return Err(format!("the correlation `{other}` has no counterpart")),
    }
    lines.push(format!("group_by: [{}]", groups.join(", ")));
    lines.push(format!("window: {{kind: sliding, span: {span}}}"));
    sheet.correlate = lines;
    Ok(sheet)
}

fn compare(condition: &Map<String, Json>, variable: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    for (word, value) in condition.iter().filter(|(word, _)| *word != "field") {
        let sign = match word.as_str() {
            "gt" => ">",
            "gte" => ">=",
            "lt" => "<",
            "lte" => "<=",
            "eq" => "==",
            "neq" => "!=",
            other => return Err(format!("the comparison `{other}` has no counterpart")),
        };
        let number = value.as_i64().ok_or_else(|| format!("`{word}` is not a whole number"))?;
        parts.push(format!("{variable} {sign} {number}"));
    }
    if parts.is_empty() {
        Err("the correlation compares nothing".to_owned())
    } else {
        Ok(parts.join(" && "))
    }
}

/// Rules that a correlation refers to make no alerts of their own, unless it says so.
fn silence(
    sheets: &mut [Sheet],
    correlation: &Sheet,
    document: &Map<String, Json>,
    by_name: &BTreeMap<String, Sheet>,
) {
    let named = strings(document.get("correlation").and_then(|block| block.get("rules")));
    let mut ids: Vec<&String> =
        named.iter().filter_map(|name| Some(&by_name.get(name)?.id)).collect();
    ids.extend(&correlation.waits_for);
    for sheet in sheets.iter_mut().filter(|sheet| ids.contains(&&sheet.id)) {
        sheet.is_silent = true;
    }
}
