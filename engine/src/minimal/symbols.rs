//! Marks what other needs than CO-RE records look at: targets to attach to, functions, variables, structs of functions.

use super::mark::{Depth, Marks};
use crate::depend::{Extent, LookedUp, Need, looked_into, looked_up};
use crate::format::btf::Kind;
use crate::kernel::{BUILT_IN_WITNESS, Indexed, Kernel};

/// Marks what the answers to `needs` depend on.
pub(super) fn symbols<'data>(
    kernel: &Kernel<'data>,
    units: &[&Indexed<'data>],
    needs: &[Need<'_>],
    marks: &mut Marks<'_, 'data>,
) {
    if needs.iter().any(Need::needs_kernel_btf)
        && let Some((nth, id)) = kernel.vmlinux.listed_named(BUILT_IN_WITNESS, Kind::Func)
    {
        marks.pin(0, id, nth, Depth::Sized);
    }
    for need in needs {
        looked_up(need).iter().for_each(|it| symbol(units, it, marks));
        for (id, members) in looked_into(need, kernel) {
            // Some are found by their names, and the first of a name is meant.
            let btf = &kernel.vmlinux.btf;
            let named = btf.ty(id).filter(|ty| !btf.is_anonymous(ty.name_off));
            let found = named.and_then(|ty| kernel.vmlinux.listed_named(btf.name(ty.name_off), ty.kind));
            if let Some((nth, id)) = found {
                marks.pin(0, id, nth, Depth::Sized);
            }
            members.into_iter().for_each(|it| marks.keep_part(0, id, it));
        }
    }
}

fn symbol<'data>(units: &[&Indexed<'data>], wanted: &LookedUp, marks: &mut Marks<'_, 'data>) {
    let depth = match wanted.extent {
        Extent::Name | Extent::Members => Depth::Sized,
        Extent::Interface => Depth::Shown,
        Extent::Functions => Depth::Whole,
    };
    for (unit, indexed) in units.iter().enumerate() {
        let Some((nth, id)) = indexed.listed_named(&wanted.name, wanted.kind) else { continue };
        marks.pin(unit, id, nth, depth);
        if wanted.extent == Extent::Members {
            let count = indexed.btf.ty(id).map_or(0, |it| it.vlen());
            (0..count).for_each(|it| marks.keep_part(unit, id, it));
        }
        // A module is not asked for what vmlinux has.
        if unit == 0 {
            return;
        }
    }
}
