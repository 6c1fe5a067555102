//! What a project says of its programs: which of them need not load, and of which one is enough.

use super::verdict::{ProgramVerdict, Verdict};
use crate::object::{Object, Program};

/// Programs that their loader may leave out, by name.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Programs that need not load.
    pub optional: Vec<Vec<u8>>,
    /// Groups of programs; of each group that an object has programs of, one must load.
    pub alternatives: Vec<Vec<Vec<u8>>>,
}

impl Roles {
    /// Whether libbpf loads a program because nobody says otherwise. What is left to the loader is switched on
    /// only where it loads, and so never ends the load of others.
    pub fn loads_unasked(&self, program: &Program<'_>) -> bool {
        let is_named = |names: &Vec<Vec<u8>>| names.iter().any(|it| it == program.name);
        program.autoload && !is_named(&self.optional) && !self.alternatives.iter().any(is_named)
    }

    /// What an object comes to by the verdicts on its programs: the worst over those that have to load, the best of
    /// each group of alternatives among them. `None` if nothing has to load.
    pub fn worst(&self, object: &Object<'_>, verdicts: &[ProgramVerdict]) -> Option<Verdict> {
        let program = |it: &ProgramVerdict| object.programs().get(it.program);
        let required = verdicts.iter().filter(|it| program(it).is_some_and(|it| self.loads_unasked(it)));
        let best_of_group = |names: &Vec<Vec<u8>>| {
            let is_of_group = |it: &&ProgramVerdict| {
                program(it).is_some_and(|program| names.iter().any(|name| name == program.name))
            };
            verdicts.iter().filter(is_of_group).map(|it| it.verdict).min()
        };
        let groups = self.alternatives.iter().filter_map(best_of_group);
        required.map(|it| it.verdict).chain(groups).max()
    }
}
