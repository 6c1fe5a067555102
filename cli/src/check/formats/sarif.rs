//! SARIF 2.1.0: a result for each cause, at the source lines where it is.

use std::collections::BTreeSet;
use std::sync::Mutex;

use btfleet_engine::ingest::InputError;
use btfleet_engine::report::Verdict;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Context, Ended, Piece, Report};
use crate::check::inventory::Weighed;
use crate::check::spread::Spread;
use crate::check::summary::{Cause, Places};
use crate::rows::hex;
use crate::rules;

/// Places that a result has at most.
const LOCATIONS_MAX: usize = 100;

pub(super) struct Sarif<'a> {
    context: &'a Context<'a>,
    notifications: Mutex<Vec<Value>>,
}

impl<'a> Sarif<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        Self { context, notifications: Mutex::default() }
    }

    fn result(
        &self,
        spread: &Spread,
        weighed: Option<&Weighed<'_>>,
        cause: &Cause,
        places: &Places<'_>,
    ) -> Value {
        let inputs = self.context.inputs;
        let on = spread.of_cause(places, inputs, weighed);
        let why = places.message.as_ref().map_or("", |it| it.1.as_str());
        let programs: BTreeSet<String> = places
            .objects
            .iter()
            .filter_map(|place| Some((place, inputs.object(place.object)?)))
            .flat_map(|(place, object)| place.programs.iter().filter_map(|it| object.programs().get(*it)))
            .map(|it| String::from_utf8_lossy(it.name).into_owned())
            .collect();
        let locations = places.objects.iter().take(LOCATIONS_MAX).map(|place| match place.line {
            Some(line) => location(&String::from_utf8_lossy(line.file), Some(line.line)),
            None => location(inputs.name_of(place.object), None),
        });
        let locations: Vec<Value> = locations.collect();
        let level = match cause.verdict.0 {
            Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => "error",
            Verdict::Unknown | Verdict::Conditional => "warning",
            _ => "note",
        };
        // The same cause in the next run is the same result.
        let print =
            hex(&Sha256::digest(format!("{}\0{}\0{}", cause.code, cause.path, cause.verdict.0.name())));
        let kernels: Vec<&str> = (0..inputs.kernel_names.len())
            .filter(|it| places.on.get(*it) == Some(&true))
            .filter_map(|it| inputs.kernel_names.get(it).copied())
            .collect();
        json!({
            "ruleId": cause.code,
            "level": level,
            "message": {"text": format!("{}: {why}; {on}", cause.path)},
            "locations": locations,
            "partialFingerprints": {"btfleetCause/v1": print},
            "properties": {
                "about": cause.path,
                "verdict": cause.verdict.0.name(),
                "programs": programs,
                "kernels": kernels,
                "pairs": places.count,
            },
        })
    }
}

impl Report for Sarif<'_> {
    fn defect(&self, defect: &InputError) -> Vec<u8> {
        let notification = json!({
            "level": if defect.code.is_remark() { "note" } else { "error" },
            "descriptor": {"id": defect.code.name()},
            "message": {"text": defect.to_string()},
            "locations": [location(&defect.path.to_string_lossy(), None)],
        });
        if let Ok(mut all) = self.notifications.lock() {
            all.push(notification);
        }
        Vec::new()
    }

    fn end(&self, ended: &Ended<'_>) -> Piece {
        let Context { inputs, loaders, args, .. } = self.context;
        let spread = Spread::new(inputs.kernels.iter().zip(inputs.kernel_names.iter().copied()));
        let causes = ended.summary.causes(args);
        let codes: BTreeSet<&str> = causes.iter().map(|it| it.0.code).collect();
        let described = codes.iter().map(|&code| match rules::explained(code) {
            Some((means, advice)) => json!({
                "id": code,
                "shortDescription": {"text": means},
                "help": {"text": advice},
            }),
            None => json!({"id": code}),
        });
        let described: Vec<Value> = described.collect();
        let results: Vec<Value> =
            causes.iter().map(|it| self.result(&spread, ended.weighed, it.0, it.1)).collect();
        let notifications = self.notifications.lock().map(|it| it.clone()).unwrap_or_default();
        let document = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "btfleet",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": described,
                    "properties": {"models": loaders.models()},
                }},
                "invocations": [{
                    "executionSuccessful": ended.complete,
                    "toolExecutionNotifications": notifications,
                }],
                "columnKind": "unicodeCodePoints",
                "results": results,
            }],
        });
        let mut out = serde_json::to_vec_pretty(&document).unwrap_or_default();
        out.push(b'\n');
        out.into()
    }
}

fn location(file: &str, line: Option<u32>) -> Value {
    let mut place = json!({"artifactLocation": {"uri": uri(file)}});
    if let (Some(line), Some(place)) = (line.filter(|it| *it > 0), place.as_object_mut()) {
        place.insert("region".into(), json!({"startLine": line}));
    }
    json!({"physicalLocation": place})
}

/// A path as a URI: absolute ones as `file:`, others relative to where the tool ran.
fn uri(path: &str) -> String {
    let mut out = if path.starts_with('/') { String::from("file://") } else { String::new() };
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'/'
            | b'.'
            | b'-'
            | b'_'
            | b'~'
            | b'+'
            | b'@'
            | b'!' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
