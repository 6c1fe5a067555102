//! What the name of a program's section says about its type. Source: `section_defs`, libbpf; spec 3.2.

use super::AttachTarget;

/// `enum bpf_prog_type`.
mod prog {
    pub(super) const SOCKET_FILTER: u32 = 1;
    pub(super) const KPROBE: u32 = 2;
    pub(super) const SCHED_CLS: u32 = 3;
    pub(super) const SCHED_ACT: u32 = 4;
    pub(super) const TRACEPOINT: u32 = 5;
    pub(super) const XDP: u32 = 6;
    pub(super) const PERF_EVENT: u32 = 7;
    pub(super) const CGROUP_SKB: u32 = 8;
    pub(super) const CGROUP_SOCK: u32 = 9;
    pub(super) const LWT_IN: u32 = 10;
    pub(super) const LWT_OUT: u32 = 11;
    pub(super) const LWT_XMIT: u32 = 12;
    pub(super) const SOCK_OPS: u32 = 13;
    pub(super) const SK_SKB: u32 = 14;
    pub(super) const CGROUP_DEVICE: u32 = 15;
    pub(super) const SK_MSG: u32 = 16;
    pub(super) const RAW_TRACEPOINT: u32 = 17;
    pub(super) const CGROUP_SOCK_ADDR: u32 = 18;
    pub(super) const LWT_SEG6LOCAL: u32 = 19;
    pub(super) const LIRC_MODE2: u32 = 20;
    pub(super) const SK_REUSEPORT: u32 = 21;
    pub(super) const FLOW_DISSECTOR: u32 = 22;
    pub(super) const CGROUP_SYSCTL: u32 = 23;
    pub(super) const RAW_TRACEPOINT_WRITABLE: u32 = 24;
    pub(super) const CGROUP_SOCKOPT: u32 = 25;
    pub(super) const TRACING: u32 = 26;
    pub(super) const STRUCT_OPS: u32 = 27;
    pub(super) const EXT: u32 = 28;
    pub(super) const LSM: u32 = 29;
    pub(super) const SK_LOOKUP: u32 = 30;
    pub(super) const SYSCALL: u32 = 31;
    pub(super) const NETFILTER: u32 = 32;
}

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 1 << 4;
/// `BPF_F_XDP_HAS_FRAGS`.
const FRAGS: u32 = 1 << 5;

/// What the kernel is told of a program's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgType {
    /// `enum bpf_prog_type`.
    pub prog_type: u32,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// `BPF_F_…`.
    pub flags: u32,
}

/// Name, type, attach type, flags. The first that fits counts; behind one that ends in a plus, a slash and anything may
/// follow.
const SECTIONS: [(&str, u32, u32, u32); 110] = [
    ("socket", prog::SOCKET_FILTER, 0, 0),
    ("sk_reuseport/migrate", prog::SK_REUSEPORT, 40, 0),
    ("sk_reuseport", prog::SK_REUSEPORT, 39, 0),
    ("kprobe+", prog::KPROBE, 0, 0),
    ("uprobe+", prog::KPROBE, 0, 0),
    ("uprobe.s+", prog::KPROBE, 0, SLEEPABLE),
    ("kretprobe+", prog::KPROBE, 0, 0),
    ("uretprobe+", prog::KPROBE, 0, 0),
    ("uretprobe.s+", prog::KPROBE, 0, SLEEPABLE),
    ("kprobe.multi+", prog::KPROBE, 42, 0),
    ("kretprobe.multi+", prog::KPROBE, 42, 0),
    ("kprobe.session+", prog::KPROBE, 56, 0),
    ("uprobe.multi+", prog::KPROBE, 48, 0),
    ("uretprobe.multi+", prog::KPROBE, 48, 0),
    ("uprobe.session+", prog::KPROBE, 57, 0),
    ("uprobe.multi.s+", prog::KPROBE, 48, SLEEPABLE),
    ("uretprobe.multi.s+", prog::KPROBE, 48, SLEEPABLE),
    ("uprobe.session.s+", prog::KPROBE, 57, SLEEPABLE),
    ("ksyscall+", prog::KPROBE, 0, 0),
    ("kretsyscall+", prog::KPROBE, 0, 0),
    ("usdt+", prog::KPROBE, 0, 0),
    ("usdt.s+", prog::KPROBE, 0, SLEEPABLE),
    ("tc/ingress", prog::SCHED_CLS, 46, 0),
    ("tc/egress", prog::SCHED_CLS, 47, 0),
    ("tcx/ingress", prog::SCHED_CLS, 46, 0),
    ("tcx/egress", prog::SCHED_CLS, 47, 0),
    ("tc", prog::SCHED_CLS, 0, 0),
    ("classifier", prog::SCHED_CLS, 0, 0),
    ("action", prog::SCHED_ACT, 0, 0),
    ("netkit/primary", prog::SCHED_CLS, 54, 0),
    ("netkit/peer", prog::SCHED_CLS, 55, 0),
    ("tracepoint+", prog::TRACEPOINT, 0, 0),
    ("tp+", prog::TRACEPOINT, 0, 0),
    ("tracepoint.s+", prog::TRACEPOINT, 0, SLEEPABLE),
    ("tp.s+", prog::TRACEPOINT, 0, SLEEPABLE),
    ("raw_tracepoint+", prog::RAW_TRACEPOINT, 0, 0),
    ("raw_tp+", prog::RAW_TRACEPOINT, 0, 0),
    ("raw_tracepoint.s+", prog::RAW_TRACEPOINT, 0, SLEEPABLE),
    ("raw_tp.s+", prog::RAW_TRACEPOINT, 0, SLEEPABLE),
    ("raw_tracepoint.w+", prog::RAW_TRACEPOINT_WRITABLE, 0, 0),
    ("raw_tp.w+", prog::RAW_TRACEPOINT_WRITABLE, 0, 0),
    ("tp_btf+", prog::TRACING, 23, 0),
    ("tp_btf.s+", prog::TRACING, 23, SLEEPABLE),
    ("fentry+", prog::TRACING, 24, 0),
    ("fmod_ret+", prog::TRACING, 26, 0),
    ("fexit+", prog::TRACING, 25, 0),
    ("fentry.s+", prog::TRACING, 24, SLEEPABLE),
    ("fmod_ret.s+", prog::TRACING, 26, SLEEPABLE),
    ("fexit.s+", prog::TRACING, 25, SLEEPABLE),
    ("fsession+", prog::TRACING, 58, 0),
    ("fsession.s+", prog::TRACING, 58, SLEEPABLE),
    ("freplace+", prog::EXT, 0, 0),
    ("lsm+", prog::LSM, 27, 0),
    ("lsm.s+", prog::LSM, 27, SLEEPABLE),
    ("lsm_cgroup+", prog::LSM, 43, 0),
    ("iter+", prog::TRACING, 28, 0),
    ("iter.s+", prog::TRACING, 28, SLEEPABLE),
    ("syscall", prog::SYSCALL, 0, SLEEPABLE),
    ("xdp.frags/devmap", prog::XDP, 33, FRAGS),
    ("xdp/devmap", prog::XDP, 33, 0),
    ("xdp.frags/cpumap", prog::XDP, 35, FRAGS),
    ("xdp/cpumap", prog::XDP, 35, 0),
    ("xdp.frags", prog::XDP, 37, FRAGS),
    ("xdp", prog::XDP, 37, 0),
    ("perf_event", prog::PERF_EVENT, 0, 0),
    ("lwt_in", prog::LWT_IN, 0, 0),
    ("lwt_out", prog::LWT_OUT, 0, 0),
    ("lwt_xmit", prog::LWT_XMIT, 0, 0),
    ("lwt_seg6local", prog::LWT_SEG6LOCAL, 0, 0),
    ("sockops", prog::SOCK_OPS, 3, 0),
    ("sk_skb/stream_parser", prog::SK_SKB, 4, 0),
    ("sk_skb/stream_verdict", prog::SK_SKB, 5, 0),
    ("sk_skb/verdict", prog::SK_SKB, 38, 0),
    ("sk_skb", prog::SK_SKB, 0, 0),
    ("sk_msg", prog::SK_MSG, 7, 0),
    ("lirc_mode2", prog::LIRC_MODE2, 16, 0),
    ("flow_dissector", prog::FLOW_DISSECTOR, 17, 0),
    ("cgroup_skb/ingress", prog::CGROUP_SKB, 0, 0),
    ("cgroup_skb/egress", prog::CGROUP_SKB, 1, 0),
    ("cgroup/skb", prog::CGROUP_SKB, 0, 0),
    ("cgroup/sock_create", prog::CGROUP_SOCK, 2, 0),
    ("cgroup/sock_release", prog::CGROUP_SOCK, 34, 0),
    ("cgroup/sock", prog::CGROUP_SOCK, 2, 0),
    ("cgroup/post_bind4", prog::CGROUP_SOCK, 12, 0),
    ("cgroup/post_bind6", prog::CGROUP_SOCK, 13, 0),
    ("cgroup/bind4", prog::CGROUP_SOCK_ADDR, 8, 0),
    ("cgroup/bind6", prog::CGROUP_SOCK_ADDR, 9, 0),
    ("cgroup/connect4", prog::CGROUP_SOCK_ADDR, 10, 0),
    ("cgroup/connect6", prog::CGROUP_SOCK_ADDR, 11, 0),
    ("cgroup/connect_unix", prog::CGROUP_SOCK_ADDR, 49, 0),
    ("cgroup/sendmsg4", prog::CGROUP_SOCK_ADDR, 14, 0),
    ("cgroup/sendmsg6", prog::CGROUP_SOCK_ADDR, 15, 0),
    ("cgroup/sendmsg_unix", prog::CGROUP_SOCK_ADDR, 50, 0),
    ("cgroup/recvmsg4", prog::CGROUP_SOCK_ADDR, 19, 0),
    ("cgroup/recvmsg6", prog::CGROUP_SOCK_ADDR, 20, 0),
    ("cgroup/recvmsg_unix", prog::CGROUP_SOCK_ADDR, 51, 0),
    ("cgroup/getpeername4", prog::CGROUP_SOCK_ADDR, 29, 0),
    ("cgroup/getpeername6", prog::CGROUP_SOCK_ADDR, 30, 0),
    ("cgroup/getpeername_unix", prog::CGROUP_SOCK_ADDR, 52, 0),
    ("cgroup/getsockname4", prog::CGROUP_SOCK_ADDR, 31, 0),
    ("cgroup/getsockname6", prog::CGROUP_SOCK_ADDR, 32, 0),
    ("cgroup/getsockname_unix", prog::CGROUP_SOCK_ADDR, 53, 0),
    ("cgroup/sysctl", prog::CGROUP_SYSCTL, 18, 0),
    ("cgroup/getsockopt", prog::CGROUP_SOCKOPT, 21, 0),
    ("cgroup/setsockopt", prog::CGROUP_SOCKOPT, 22, 0),
    ("cgroup/dev", prog::CGROUP_DEVICE, 6, 0),
    ("struct_ops+", prog::STRUCT_OPS, 0, 0),
    ("struct_ops.s+", prog::STRUCT_OPS, 0, SLEEPABLE),
    ("sk_lookup", prog::SK_LOOKUP, 36, 0),
    ("netfilter", prog::NETFILTER, 45, 0),
];

impl ProgType {
    /// Number of the type of struct_ops programs.
    pub const STRUCT_OPS: u32 = prog::STRUCT_OPS;

    /// A type that attaches to nothing that would have to be known.
    pub const NEUTRAL: Self = Self { prog_type: prog::RAW_TRACEPOINT, attach_type: 0, flags: 0 };

    /// The type that a section's name stands for, a leading `?` included.
    pub fn of_section(section: &[u8]) -> Option<Self> {
        let section = section.strip_prefix(b"?").unwrap_or(section);
        let fits = |name: &str| match name.strip_suffix('+') {
            Some(name) => matches!(section.strip_prefix(name.as_bytes()), Some([] | [b'/', ..])),
            None => section == name.as_bytes(),
        };
        let &(_, prog_type, attach_type, flags) = SECTIONS.iter().find(|(name, ..)| fits(name))?;
        Some(Self { prog_type, attach_type, flags })
    }

    /// The section that a compiler would put such a program into, without what it attaches to, and what stands in front of
    /// the name of that in the kernel's BTF.
    pub fn section(self) -> Option<(&'static str, &'static str)> {
        let find = |fits: &dyn Fn(u32) -> bool| {
            let wanted = (self.prog_type, self.attach_type);
            SECTIONS.iter().find(|(_, prog, attach, flags)| (*prog, *attach) == wanted && fits(*flags))
        };
        let name = find(&|flags| flags == self.flags).or_else(|| find(&|_| true))?.0.trim_end_matches('+');
        let target = AttachTarget::of_section(name.as_bytes());
        Some((name, target.and_then(|it| it.kind.in_btf()).map_or("", |it| it.0)))
    }

    /// Names of all sections that stand for a type, without what may follow.
    pub fn sections() -> impl Iterator<Item = &'static str> {
        SECTIONS.iter().map(|(name, ..)| name.trim_end_matches('+'))
    }
}
