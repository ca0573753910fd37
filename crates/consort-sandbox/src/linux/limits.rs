//! Limits of the kernel for one process, and privileges.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};

use super::root::HELPERS;
use crate::Limits;

const MIB: u64 = 1024 * 1024;

/// Sets the limits, never above those that are in force. `own_user`: processes are counted for this sandbox alone.
pub(super) fn limit(limits: &Limits, own_user: bool) -> io::Result<()> {
    let mut wanted = vec![
        // Not 0: a program that takes dumps from the kernel gets them then, too. One byte stops both.
        (Resource::Core, 1),
        (Resource::Data, limits.memory_mib.saturating_mul(MIB)),
        (Resource::Fsize, limits.file_mib.saturating_mul(MIB)),
        (Resource::Nofile, limits.open_files),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
        (Resource::Nice, 0),
    ];
    wanted.extend(limits.cpu_seconds.map(|seconds| (Resource::Cpu, seconds)));
    if own_user {
        wanted.push((Resource::Nproc, limits.processes + HELPERS));
    }
    for (resource, most) in wanted {
        let most = getrlimit(resource).maximum.map_or(most, |now| now.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// Gives up every capability, for this process and whatever it starts, root's as well.
pub(super) fn give_up_capabilities() -> io::Result<()> {
    let locked = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    clear_ambient_capability_set()?;
    // Both need a capability. A user without any has nothing to lose: with no_new_privs no program gives it one.
    for capability in CapabilitySet::all().iter() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    let _ = set_capabilities_secure_bits(locked);
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_no_new_privs(true)?)
}
