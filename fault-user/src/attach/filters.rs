//! Filters on the clsact qdisc: what there was before tcx. They outlive their process.

use aya::{
    Ebpf,
    programs::tc::{NlOptions, TcAttachOptions},
};

use super::{Program, classifier, program_error};
use crate::{
    clsact::{self, Filter, Lock, attach_type},
    error::KernelError,
    interface::{self, Interface},
    inventory,
    namespace::Namespace,
    privilege,
};

/// Filters, which stay until they are taken out.
#[derive(Debug)]
pub struct Filters {
    /// Where they sit.
    namespace: Namespace,
    /// The interface's index.
    ifindex: u32,
    list: Vec<Filter>,
    /// Whether faultctl added the qdisc.
    added: bool,
}

/// Adds a filter for each program, in front of those that are there. Under the lock.
pub fn attach(
    ebpf: &mut Ebpf,
    iface: &Interface,
    namespace: &Namespace,
    programs: &[Program],
    mut before: impl FnMut(bool) -> Result<(), KernelError>,
) -> Result<Filters, KernelError> {
    // Without the right to look, what others left stays for those who may.
    let ours = if privilege::missing(&[privilege::TO_LOOK_AROUND])?.is_empty() {
        inventory::scan()?
    } else {
        Vec::new()
    };
    clsact::remove_leftovers(iface.index, |program| inventory::leftover(&ours, program))?;
    let added_now = clsact::ensure(iface.index, &iface.name)?;
    let there = clsact::filters(iface.index)?;
    // The last faultctl to leave removes a qdisc that any faultctl added.
    let added = added_now
        || there.iter().any(|filter| {
            filter
                .program
                .is_some_and(|program| inventory::added_clsact(&ours, program))
        });
    let mut filters = Partial(Some(Filters {
        namespace: namespace.clone(),
        ifindex: iface.index,
        list: Vec::new(),
        added,
    }));
    before(added)?;
    for &program in programs {
        let direction = program.direction();
        let first = there
            .iter()
            .filter(|filter| filter.direction == direction)
            .map(|filter| filter.priority)
            .min();
        let priority = match first {
            None => 0xc000,
            Some(first) if first > 1 => first - 1,
            Some(_) => {
                return Err(KernelError::NoPriority {
                    iface: iface.name.clone(),
                });
            }
        };
        let classifier = classifier(ebpf, program)?;
        let error = |error| program_error("attach", program, error);
        let id = classifier.info().map_err(error)?.id();
        let link = classifier
            .attach_with_options(
                &iface.name,
                attach_type(direction),
                TcAttachOptions::Netlink(NlOptions {
                    priority,
                    ..NlOptions::default()
                }),
            )
            .and_then(|link| classifier.take_link(link))
            .map_err(error)?;
        let handle = link.handle().map_err(error)?;
        // Dropped, it would send its removal to whatever namespace the thread is in then.
        std::mem::forget(link);
        filters.push(Filter {
            direction,
            priority,
            handle: handle.into(),
            program: Some(id),
        });
    }
    filters.complete().ok_or(KernelError::Interrupted)
}

impl Filters {
    /// Whether all of them are where they were put.
    pub fn are_there(&self) -> bool {
        let there = self.namespace.run(|| clsact::filters(self.ifindex));
        there.map_or_else(
            |error| !error.is_missing_namespace(),
            |there| self.list.iter().all(|filter| there.contains(filter)),
        )
    }

    /// Takes them out.
    pub fn remove(self) -> Result<(), KernelError> {
        // A signal has come already, as a rule; a second one ends the process.
        let _lock = Lock::take(|| false)?;
        match self
            .namespace
            .run(|| remove(self.ifindex, &self.list, self.added))
        {
            Err(error) if error.is_missing_namespace() => Ok(()),
            result => result,
        }
    }
}

/// Filters that are taken out again unless all of them come to be.
struct Partial(Option<Filters>);

impl Partial {
    fn push(&mut self, filter: Filter) {
        if let Some(Filters { list, .. }) = &mut self.0 {
            list.push(filter);
        }
    }

    fn complete(mut self) -> Option<Filters> {
        self.0.take()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(Filters {
            ifindex,
            list,
            added,
            ..
        }) = self.0.take()
        {
            let _ = remove(ifindex, &list, added);
        }
    }
}

/// Takes filters out; in the interface's namespace, with the lock held. One that
/// somebody removed, and whose place another may have taken, is left alone.
fn remove(ifindex: u32, filters: &[Filter], added: bool) -> Result<(), KernelError> {
    let Some(name) = interface::name_now(ifindex)? else {
        return Ok(());
    };
    let there = clsact::filters(ifindex)?;
    let ours: Vec<_> = filters
        .iter()
        .filter(|filter| there.contains(filter))
        .collect();
    for filter in &ours {
        filter.remove(&name)?;
    }
    // Without any of ours there, the qdisc may be somebody else's too.
    if added && (filters.is_empty() || !ours.is_empty()) {
        clsact::remove_if_empty(ifindex)?;
    }
    Ok(())
}
