//! A page for people: one file that needs no network, with a map of all programs on all kernels.
//!
//! What it shows stands in it as JSON, in two scripts that are no programs: `objects`, an element for each object as they
//! are judged, and `report`, with everything that is known at the end. What is written there is text to the page's script
//! and never markup. The page's policy lets nothing run but that script, and nothing be loaded.

mod layouts;
mod rows;

use std::collections::BTreeSet;
use std::sync::Mutex;

use btfleet_engine::ingest::InputError;
use btfleet_engine::report::{Verdict, Verdicts};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Context, Ended, Piece, Report};
use crate::check::inventory::{Group, Weighed};
use crate::check::spread::Spread;
use crate::check::summary::{Cause, Places, Summary};
use crate::check::table;
use crate::load::Inputs;
use crate::rules;
use layouts::Wanted;
use rows::ObjectRow;

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = concat!(
    include_str!("data.js"),
    include_str!("map.js"),
    include_str!("layout.js"),
    include_str!("report.js")
);

/// Causes that are listed at most.
const CAUSES_MAX: usize = 5000;
/// Kernels of hosts that are listed at most for a verdict.
const HOSTS_MAX: usize = 1000;

pub(super) struct Html<'a> {
    context: &'a Context<'a>,
    spread: Spread,
    defects: Mutex<Vec<String>>,
    /// Codes that findings have.
    codes: Mutex<BTreeSet<&'static str>>,
    wanted: Mutex<Wanted<'a>>,
}

impl<'a> Html<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let inputs = context.inputs;
        Self {
            context,
            spread: Spread::new(inputs.kernels.iter().zip(inputs.kernel_names.iter().copied())),
            defects: Mutex::default(),
            codes: Mutex::default(),
            wanted: Mutex::default(),
        }
    }

    /// Everything but the objects.
    fn report(&self, ended: &Ended<'_>) -> Value {
        let Context { inputs, loaders, args, .. } = self.context;
        let Ended { summary, weighed, .. } = *ended;
        let columns = self.spread.columns();
        let series: Vec<(&str, usize)> =
            columns.iter().map(|it| (it.label.as_str(), it.kernels.len())).collect();
        let order: Vec<usize> = self.spread.order().to_vec();
        let kernels: Vec<Value> = order.iter().map(|it| self.kernel(*it, weighed)).collect();
        let verdicts = Verdict::ALL.map(|it| {
            let (means, advice) = rules::explained_in(rules::Group::Verdict, it.name()).unwrap_or_default();
            json!({"name": it.name(), "means": means, "advice": advice})
        });
        let effects: BTreeSet<&str> =
            btfleet_engine::report::Effect::ALL.iter().map(|it| it.name()).collect();
        let effects: Map<String, Value> = effects
            .into_iter()
            .filter_map(|it| Some((it.to_owned(), rules::explained_in(rules::Group::Effect, it)?.0.into())))
            .collect();
        let codes = self.codes.lock().map(|it| it.clone()).unwrap_or_default();
        let codes: Map<String, Value> =
            codes.into_iter().filter_map(|it| Some((it.to_owned(), json!(rules::explained(it)?)))).collect();
        let layouts = match self.wanted.lock() {
            Ok(wanted) => wanted.layouts(inputs, &order, args.inputs.modules.into()),
            Err(_) => Value::Null,
        };
        json!({
            "v": 1,
            "version": env!("CARGO_PKG_VERSION"),
            "models": loaders.models(),
            "complete": ended.complete,
            "defects": self.defects.lock().map(|it| it.clone()).unwrap_or_default(),
            "explain": args.for_explain(),
            "counts": summary.counts.iter().rev().map(|(it, count)| (*it as u32, *count)).collect::<Vec<_>>(),
            "not_judged": &summary.pairs_not_judged,
            "judges_needs": loaders.is_libbpf(),
            "verdicts": verdicts,
            "effects": effects,
            "codes": codes,
            "series": series,
            "kernels": kernels,
            "causes": self.causes(summary, weighed),
            "hosts": weighed.map(|it| hosts(it, inputs)),
            "layouts": layouts,
        })
    }

    fn kernel(&self, kernel: usize, weighed: Option<&Weighed<'_>>) -> Value {
        let inputs = self.context.inputs;
        let name = inputs.kernel_names.get(kernel).copied().unwrap_or_default();
        let mut row = json!({"name": name, "release": self.spread.release(kernel)});
        let arg = inputs.kernel_args.get(kernel).map_or(name, String::as_str);
        let facts = inputs.kernels.get(kernel).map(|it| &it.facts);
        if let Some(row) = row.as_object_mut() {
            let facts = facts.map(|it| {
                [("distro", &it.distribution), ("arch", &it.architecture), ("flavour", &it.flavour)]
            });
            for (key, text) in facts.into_iter().flatten().filter(|it| !it.1.is_empty()) {
                row.insert(key.into(), text.as_str().into());
            }
            if let Some(weighed) = weighed {
                row.insert("hosts".into(), weighed.on(kernel).into());
            }
            if arg != name {
                row.insert("arg".into(), arg.into());
            }
        }
        row
    }

    /// As in the table.
    fn causes(&self, summary: &Summary<'_>, weighed: Option<&Weighed<'_>>) -> Vec<Value> {
        let causes = summary.causes(self.context.args).into_iter().take(CAUSES_MAX);
        causes.map(|(cause, places)| self.cause(cause, places, weighed)).collect()
    }

    fn cause(&self, cause: &Cause, places: &Places<'_>, weighed: Option<&Weighed<'_>>) -> Value {
        let inputs = self.context.inputs;
        json!({
            "verdict": cause.verdict.0 as u32,
            "code": cause.code,
            "about": cause.path,
            "kinds": &places.kinds,
            "optional": !places.in_default,
            "programs": places.program_count(),
            "pairs": places.count,
            "on": self.spread.of_cause(places, inputs, weighed),
            "message": places.message.as_ref().map_or("", |it| it.1.as_str()),
            "explain": table::explain(places, inputs, self.context.args),
        })
    }
}

impl Report for Html<'_> {
    fn start(&self) -> Vec<u8> {
        let head = PAGE.split("@OBJECTS@").next().unwrap_or_default();
        let head = head.replace("@STYLE-HASH@", &hash(STYLE)).replace("@SCRIPT-HASH@", &hash(SCRIPT));
        let mut page = head.replace("@STYLE@", STYLE).into_bytes();
        page.push(b'[');
        page
    }

    fn defect(&self, defect: &InputError) -> Vec<u8> {
        if let Ok(mut all) = self.defects.lock() {
            all.push(defect.to_string());
        }
        Vec::new()
    }

    fn object(&self, number: usize, verdicts: &Verdicts) -> Piece {
        let Some(row) = ObjectRow::new(self.context, self.spread.order(), number, verdicts) else {
            return Vec::new().into();
        };
        if let Ok(mut codes) = self.codes.lock() {
            codes.extend(row.codes());
        }
        if let (Ok(mut wanted), Some(object)) = (self.wanted.lock(), self.context.inputs.object(number)) {
            wanted.add(object, verdicts);
        }
        let mut text = inert(&row);
        text.extend(b",\n");
        text.into()
    }

    fn end(&self, ended: &Ended<'_>) -> Piece {
        let tail = PAGE.split("@OBJECTS@").nth(1).unwrap_or_default();
        let (before, after) = tail.split_once("@REPORT@").unwrap_or_default();
        // Behind the last comma, there has to be something.
        let mut page = b"null]".to_vec();
        page.extend(before.as_bytes());
        page.extend(inert(&self.report(ended)));
        page.extend(after.replace("@SCRIPT@", SCRIPT).as_bytes());
        page.into()
    }
}

/// What verdicts come to on hosts.
fn hosts(weighed: &Weighed<'_>, inputs: &Inputs<'_>) -> Value {
    let groups = weighed.groups(inputs).into_iter();
    let groups = groups.map(|Group { verdict, hosts, mut kernels }| {
        let more = kernels.len().saturating_sub(HOSTS_MAX);
        kernels.truncate(HOSTS_MAX);
        json!({"verdict": verdict.map(|it| it as u32), "hosts": hosts, "kernels": kernels, "more": more})
    });
    json!({"sentence": weighed.sentence(), "groups": groups.collect::<Vec<_>>()})
}

/// JSON in which nothing can end the script that it stands in.
fn inert(row: &impl Serialize) -> Vec<u8> {
    // Strings and numbers into memory: there is nothing that could fail.
    let json = serde_json::to_vec(row).unwrap_or_default();
    let mut out = Vec::with_capacity(json.len());
    for byte in json {
        match byte {
            // Only strings have it.
            b'<' => out.extend(b"\\u003c"),
            byte => out.push(byte),
        }
    }
    out
}

/// How a page's policy names a script or style that it lets in: SHA-256 in Base64.
fn hash(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("sha256-");
    for group in Sha256::digest(text).chunks(3) {
        let bits = (0..3).fold(0, |bits, it| bits << 8 | usize::from(group.get(it).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = DIGITS.get(bits >> (18 - 6 * place) & 63).copied().unwrap_or_default();
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the page is whole, that its script cannot end before its end, and that it is let in by its own hash.
    #[test]
    fn nothing_in_the_page_ends_it() {
        for mark in ["@OBJECTS@", "@REPORT@", "@SCRIPT@", "@STYLE@", "@STYLE-HASH@", "@SCRIPT-HASH@"] {
            assert_eq!(PAGE.matches(mark).count(), 1, "{mark}");
        }
        for part in
            ["</script", "<!--", "innerHTML", "insertAdjacentHTML", "document.write", "http:", "https:"]
        {
            assert!(!SCRIPT.contains(part), "{part}");
        }
        assert!(!STYLE.contains("</style") && !STYLE.contains("url("));
        assert_eq!(hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(inert(&"</script>"), b"\"\\u003c/script>\"");
    }
}
