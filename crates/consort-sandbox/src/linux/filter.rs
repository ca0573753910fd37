//! seccomp: which system calls, and with what.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::calls::{ALLOWED, ALLOWED_HERE, DENIED, DENIED_HERE, DENIED_REQUESTS, NAMESPACE_FLAGS};
use crate::{Exec, Net, Sandbox};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Bits of a socket's type that are its type; the others are flags.
const TYPE: u64 = 0xf;

#[cfg(target_arch = "x86_64")]
const MACHINE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: TargetArch = TargetArch::aarch64;

/// The filters for what was granted, in the order in which they are to be installed. What both refuse gets the answer of the last.
pub(super) fn filters(sandbox: &Sandbox) -> Result<[BpfProgram; 2], BackendError> {
    let (absent, denied) = (SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Errno(libc::EPERM as u32));
    let allow = SeccompFilter::new(allowed(sandbox), absent, SeccompAction::Allow, MACHINE)?;
    let deny = SeccompFilter::new(refused(sandbox)?, SeccompAction::Allow, denied, MACHINE)?;
    Ok([allow.try_into()?, deny.try_into()?])
}

/// A condition on the lower half of an argument: the kernel reads no more of these.
fn arg(index: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)
}

fn rule(
    conditions: impl IntoIterator<Item = Result<SeccompCondition, BackendError>>,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

/// A flag that is set.
fn flag(index: u8, flag: u64) -> Result<SeccompRule, BackendError> {
    rule([arg(index, SeccompCmpOp::MaskedEq(flag), flag)])
}

/// No rules mean: whatever the arguments.
fn allowed(sandbox: &Sandbox) -> Rules {
    let mut rules: Rules = ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.extend([libc::SYS_socket, libc::SYS_socketpair].map(|call| (call, Vec::new())));
    // It is memory that no limit counts, and what is executed from it is no file.
    if sandbox.exec == Exec::All {
        rules.insert(libc::SYS_memfd_create, Vec::new());
    }
    rules
}

fn refused(sandbox: &Sandbox) -> Result<Rules, BackendError> {
    let mut rules: Rules = DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, sockets(&sandbox.net)?);
    rules.insert(libc::SYS_socketpair, vec![rule([arg(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)])?]);
    let requests = DENIED_REQUESTS.iter().map(|request| rule([arg(1, SeccompCmpOp::Eq, *request)]));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    let namespaces = NAMESPACE_FLAGS.iter().map(|new| flag(0, u64::from(*new as u32)));
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    // Data in the packet that opens a connection: Landlock does not see that connection on older kernels.
    for (call, index) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        rules.insert(call, vec![flag(index, libc::MSG_FASTOPEN as u64)?]);
    }
    let devices = |index| -> Result<Vec<SeccompRule>, BackendError> {
        let kinds = [libc::S_IFCHR, libc::S_IFBLK].map(u64::from);
        kinds.iter().map(|kind| rule([arg(index, SeccompCmpOp::MaskedEq(u64::from(libc::S_IFMT)), *kind)])).collect()
    };
    rules.insert(libc::SYS_mknodat, devices(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_mknod, devices(1)?);
    Ok(rules)
}

/// The sockets that must not be made: each rule is a sort of them.
fn sockets(net: &Net) -> Result<Vec<SeccompRule>, BackendError> {
    let is = |index, value: i32| arg(index, SeccompCmpOp::Eq, value as u64);
    let is_not = |index, value: i32| arg(index, SeccompCmpOp::Ne, value as u64);
    let family = [libc::AF_INET, libc::AF_INET6];
    let stranger = rule([is_not(0, libc::AF_UNIX), is_not(0, family[0]), is_not(0, family[1])])?;
    let mut rules = vec![stranger];
    for family in family {
        let udp = match net {
            Net::None => {
                rules.push(rule([is(0, family)])?);
                continue;
            }
            Net::Ports { udp, .. } => *udp,
            Net::All => true,
        };
        let kind = |op: fn(u64) -> SeccompCmpOp, kind: i32| arg(1, op(TYPE), kind as u64);
        let masked: fn(u64) -> SeccompCmpOp = SeccompCmpOp::MaskedEq;
        // Types are 1 to 10: each that is neither a stream nor, if granted, a datagram.
        for other in 0..=TYPE as i32 {
            if other != libc::SOCK_STREAM && !(udp && other == libc::SOCK_DGRAM) {
                rules.push(rule([is(0, family), kind(masked, other)])?);
            }
        }
        // Protocols beside TCP and UDP, which Landlock does not hold to ports, and which need no port.
        rules.push(rule([is(0, family), kind(masked, libc::SOCK_STREAM), is_not(2, 0), is_not(2, libc::IPPROTO_TCP)])?);
        rules.push(rule([is(0, family), kind(masked, libc::SOCK_DGRAM), is_not(2, 0), is_not(2, libc::IPPROTO_UDP)])?);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn filters_compile_for_every_grant() {
        for net in [Net::None, Net::All, Net::Ports { connect: vec![1], bind: vec![], udp: false }] {
            for exec in [Exec::None, Exec::All] {
                let sandbox = Sandbox { net: net.clone(), exec, ..Sandbox::new("/") };
                assert!(filters(&sandbox).unwrap().iter().all(|filter| !filter.is_empty()));
            }
        }
    }

    #[test]
    fn no_call_is_both_allowed_and_denied() {
        let allowed: BTreeSet<_> = ALLOWED.iter().chain(ALLOWED_HERE).collect();
        assert!(DENIED.iter().chain(DENIED_HERE).all(|call| !allowed.contains(call)));
    }
}
