//! `btfleet.toml`: what a project says of its programs. `docs/manifest.md` describes it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use btfleet_engine::ingest::Intake;
use btfleet_engine::object::{AttachTarget, Object};
use btfleet_engine::report::{Finding, Roles, Verdict, Verdicts, World};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::value::Datetime;

use crate::check::subject;
use crate::output::{Failure, plural};
use crate::rules::is_code;
use crate::world::Constant;

/// What a project says of its programs; nothing, without a manifest.
#[derive(Default)]
pub(crate) struct Project {
    /// The file, as it was typed.
    path: String,
    text: String,
    file: File,
    /// By entry of `accept`: whether its day has passed.
    is_expired: Vec<bool>,
}

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    program: BTreeMap<Spanned<String>, Program>,
    #[serde(default)]
    alternatives: Vec<Alternatives>,
    #[serde(default)]
    rodata: BTreeMap<Spanned<String>, Spanned<Setting>>,
    #[serde(default)]
    accept: Vec<Accept>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    #[serde(default)]
    optional: bool,
    attach: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alternatives {
    programs: Spanned<Vec<Spanned<String>>>,
}

/// The value of a variable in `.rodata`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a whole number, true, false, or a number or \"unknown\" as a string")]
enum Setting {
    Bool(bool),
    Number(i64),
    Text(String),
}

/// Findings that are known and do not count until a day.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accept {
    code: Spanned<String>,
    program: Option<Spanned<String>>,
    about: Option<String>,
    until: Spanned<Datetime>,
    why: Spanned<String>,
}

/// An accepted finding, as rows show it.
#[derive(Serialize)]
pub(crate) struct AcceptedRow<'a> {
    until: String,
    why: &'a str,
    expired: bool,
}

impl Project {
    /// Reads a manifest and checks what can be checked without the objects.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = Intake::default().read(path).map_err(|error| Failure::Usage(error.to_string()))?;
        let path = path.to_string_lossy().into_owned();
        let text = String::from_utf8(bytes).map_err(|_| Failure::Usage(format!("{path}: it is no UTF-8")))?;
        let file = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let line = error.span().map(|it| format!(":{}", line(&text, &it))).unwrap_or_default();
            Failure::Usage(format!("{path}{line}: {}", error.message().trim().replace('\n', ": ")))
        })?;
        let mut this = Self { path, text, file, is_expired: Vec::new() };
        this.is_expired = this.file.accept.iter().map(|it| day_of(it.until.get_ref()) < today()).collect();
        this.validate()?;
        Ok(this)
    }

    fn validate(&self) -> Result<(), Failure> {
        for accept in &self.file.accept {
            let (code, until) = (accept.code.get_ref(), accept.until.get_ref());
            if !is_code(code) {
                let why = format!("there is no code '{code}'; 'btfleet rules' lists them");
                return Err(self.error(&accept.code.span(), &why));
            }
            if until.date.is_none() || until.time.is_some() {
                return Err(self.error(&accept.until.span(), "'until' is a day, such as 2027-01-31"));
            }
            if accept.why.get_ref().trim().is_empty() {
                return Err(self.error(&accept.why.span(), "'why' says nothing"));
            }
        }
        for group in &self.file.alternatives {
            if group.programs.get_ref().len() < 2 {
                return Err(self.error(&group.programs.span(), "alternatives are at least two programs"));
            }
            for name in group.programs.get_ref() {
                if self.file.program.get(name.get_ref().as_str()).is_some_and(|it| it.optional) {
                    let why = format!("'{}' is optional already", name.get_ref());
                    return Err(self.error(&name.span(), &why));
                }
            }
        }
        for (name, setting) in &self.file.rodata {
            self.constant(name, setting)?;
        }
        let targets = self.file.program.values().filter_map(|it| it.attach.as_ref());
        for target in targets {
            if AttachTarget::of_section(target.get_ref().as_bytes()).is_none_or(|it| it.name.is_none()) {
                let why =
                    format!("'{}' is no attach target, which look like fentry/function", target.get_ref());
                return Err(self.error(&target.span(), &why));
            }
        }
        Ok(())
    }

    /// Checks that the objects have what the manifest names, and tells them what they attach to.
    pub(crate) fn apply<'a>(&'a self, objects: &mut [Object<'a>]) -> Result<(), Failure> {
        let groups = self.file.alternatives.iter().flat_map(|it| it.programs.get_ref());
        let accepted = self.file.accept.iter().filter_map(|it| it.program.as_ref());
        for name in self.file.program.keys().chain(groups).chain(accepted) {
            let has = |it: &Object<'_>| it.programs().iter().any(|it| is_called(it, name.get_ref()));
            if !objects.iter().any(has) {
                return Err(
                    self.error(&name.span(), &format!("no object has a program '{}'", name.get_ref()))
                );
            }
        }
        for name in self.file.rodata.keys() {
            let has = |it: &Object<'_>| {
                let sections = it.data_sections();
                it.variables().iter().any(|it| {
                    it.name == name.get_ref().as_bytes()
                        && sections.get(it.section).is_some_and(|it| it.is_frozen)
                })
            };
            if !objects.iter().any(has) {
                let why = format!("no object has a variable '{}' in .rodata", name.get_ref());
                return Err(self.error(&name.span(), &why));
            }
        }
        for (name, program) in &self.file.program {
            let Some(attach) = &program.attach else { continue };
            let Some(target) = AttachTarget::of_section(attach.get_ref().as_bytes()) else { continue };
            for object in &mut *objects {
                let named = object.programs().iter().position(|it| is_called(it, name.get_ref()));
                let Some(number) = named else { continue };
                let kind = object.programs().get(number).and_then(|it| it.attach).map(|it| it.kind);
                if kind != Some(target.kind) {
                    let why = format!(
                        "'{}' is a program of another type than '{}'",
                        name.get_ref(),
                        attach.get_ref()
                    );
                    return Err(self.error(&attach.span(), &why));
                }
                object.set_attach(number, target);
            }
        }
        Ok(())
    }

    /// Programs that their loader may leave out.
    fn roles(&self) -> Roles {
        let bytes = |it: &Spanned<String>| it.get_ref().clone().into_bytes();
        let optional = self.file.program.iter().filter(|(_, it)| it.optional).map(|(name, _)| bytes(name));
        let group = |it: &Alternatives| it.programs.get_ref().iter().map(bytes).collect();
        Roles {
            optional: optional.collect(),
            alternatives: self.file.alternatives.iter().map(group).collect(),
        }
    }

    /// Adds what it says to what was typed, which has the last word.
    pub(crate) fn add_to(&self, world: &mut World) {
        // They were checked when the file was read.
        let constants = self.file.rodata.iter().filter_map(|(name, it)| self.constant(name, it).ok());
        let constants = constants.map(|it| (it.name.into_bytes(), it.value));
        world.constants.splice(0..0, constants);
        world.roles = self.roles();
    }

    fn constant(&self, name: &Spanned<String>, setting: &Spanned<Setting>) -> Result<Constant, Failure> {
        let value = match setting.get_ref() {
            Setting::Bool(value) => value.to_string(),
            Setting::Number(value) => value.to_string(),
            Setting::Text(value) => value.clone(),
        };
        Constant::from_str(&format!("{}={value}", name.get_ref()))
            .map_err(|why| self.error(&setting.span(), &why))
    }

    /// Takes accepted findings out of the verdicts on an object; gives the number of the entry and of the class of
    /// kernels for each finding that an entry is about.
    pub(crate) fn accept(&self, object: &Object<'_>, verdicts: &mut Verdicts) -> Vec<(usize, usize)> {
        let mut met = Vec::new();
        if self.file.accept.is_empty() {
            return met;
        }
        for (class, verdicts) in verdicts.by_class.iter_mut().enumerate() {
            for verdict in verdicts {
                for finding in &mut verdict.findings {
                    let Some(entry) = self.entry_of(object, verdict.program, finding) else { continue };
                    if finding.verdict == Verdict::Ok {
                        continue;
                    }
                    met.push((entry, class));
                    if self.is_expired.get(entry) == Some(&false) {
                        finding.verdict = Verdict::Ok;
                    }
                }
                verdict.verdict = verdict.findings.iter().map(|it| it.verdict).max().unwrap_or(Verdict::Ok);
            }
        }
        met
    }

    /// What the manifest says of a finding, if it does.
    pub(crate) fn acceptance(
        &self,
        object: &Object<'_>,
        program: usize,
        finding: &Finding,
    ) -> Option<AcceptedRow<'_>> {
        let entry = self.entry_of(object, program, finding)?;
        let accept = self.file.accept.get(entry)?;
        let expired = self.is_expired.get(entry) == Some(&true);
        Some(AcceptedRow { until: accept.until.get_ref().to_string(), why: accept.why.get_ref(), expired })
    }

    fn entry_of(&self, object: &Object<'_>, program: usize, finding: &Finding) -> Option<usize> {
        let fits = |it: &Accept| {
            it.code.get_ref() == finding.code
                && it.program.as_ref().is_none_or(|name| {
                    object.programs().get(program).is_some_and(|it| is_called(it, name.get_ref()))
                })
                && it.about.as_ref().is_none_or(|about| *about == what_about(object, finding))
        };
        let mut fitting = self.file.accept.iter().enumerate().filter(|it| fits(it.1)).map(|it| it.0);
        let first = fitting.next()?;
        // What still holds comes before what has expired.
        let is_valid = |it: &usize| self.is_expired.get(*it) == Some(&false);
        Some(std::iter::once(first).chain(fitting).find(is_valid).unwrap_or(first))
    }

    /// What became of each entry of `accept`: `counts` has the programs on kernels that it was about.
    pub(crate) fn remarks(&self, counts: &BTreeMap<usize, usize>) -> Vec<String> {
        let remark = |(number, accept): (usize, &Accept)| {
            let about = accept.about.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
            let program = accept.program.as_ref().map(|it| format!(" in {}", it.get_ref()));
            let what = format!("{}{about}{}", accept.code.get_ref(), program.unwrap_or_default());
            let (until, why) = (accept.until.get_ref(), accept.why.get_ref());
            match (counts.get(&number), self.is_expired.get(number)) {
                (None, _) => {
                    format!("{}: {what} is accepted, and was not found", self.place(&accept.code.span()))
                }
                (Some(count), Some(true)) => format!(
                    "{}: {what} was accepted until {until} ({why}); it counts again, {}",
                    self.place(&accept.code.span()),
                    plural(*count, "time")
                ),
                (Some(count), _) => {
                    format!("accepted until {until}: {what}, {} ({why})", plural(*count, "time"))
                }
            }
        };
        self.file.accept.iter().enumerate().map(remark).collect()
    }

    fn place(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.path, line(&self.text, span))
    }

    fn error(&self, span: &Range<usize>, why: &str) -> Failure {
        Failure::Usage(format!("{}: {why}", self.place(span)))
    }
}

fn is_called(program: &btfleet_engine::object::Program<'_>, name: &str) -> bool {
    !program.is_subprogram && program.name == name.as_bytes()
}

/// What a finding is about, as the summary calls it.
pub(crate) fn what_about(object: &Object<'_>, finding: &Finding) -> String {
    let reloc = finding.reloc.and_then(|it| object.relocs().get(it));
    reloc.map(|it| subject(object, it, finding.code)).or_else(|| finding.subject.clone()).unwrap_or_default()
}

/// Number of the line that a place in a text is in.
fn line(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|it| *it == b'\n').count() + 1
}

/// A day as a number that grows with time: year, month, day.
fn day_of(day: &Datetime) -> (i64, i64, i64) {
    let date = |it: toml::value::Date| (it.year.into(), it.month.into(), it.day.into());
    day.date.map_or((i64::MAX, 0, 0), date)
}

/// Today in UTC.
fn today() -> (i64, i64, i64) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    civil(i64::try_from(seconds / 86400).unwrap_or(0))
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: counted from the first of March of
/// the year 0, so that a leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let from_march_0 = days + 719_468;
    let era = from_march_0.div_euclid(DAYS_IN_400_YEARS);
    let day_of_era = from_march_0.rem_euclid(DAYS_IN_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that days are counted as calendars have them, leap years included.
    #[test]
    fn days_have_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_453), (2025, 12, 31));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }
}
