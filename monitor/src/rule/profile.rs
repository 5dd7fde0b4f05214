//! Profiles: what a class of workload is, and what it may do.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use serde::Serialize;

use crate::model::{Facts, FieldId, KindSet, ProfileId};

use super::assembly::check_id;
use super::cel::{Condition, Context, Names};
use super::correlation::read_span;
use super::diagnostic::{Located, Reported, Sink, Span, suggest};
use super::file::RawProfile;
use super::net::{NetSet, parse_net};
use super::ported::{PortedPeer, PortedPeers};
use super::quantity::parse_bytes;
use super::spec::{Predicate, Vars};
use super::yaml::{Entries, Node, Yaml, list, text};

/// Most peers with ports of one profile.
pub(crate) const PEERS_MAX: usize = 1_024;
/// Most budgets of one profile; each keeps a counter per workload.
pub(crate) const BUDGETS_MAX: usize = 64;
/// Longest period of a budget: 30 days in nanoseconds.
pub(crate) const BUDGET_NS_MAX: u64 = super::correlation::WINDOW_SPAN_NS_MAX;
/// Port of DNS, which `dns: true` opens to every address.
const DNS_PORT: u16 = 53;

/// Role of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It trains a model.
    Training,
    /// It serves a model.
    Inference,
    /// A person works in it.
    Notebook,
    /// It computes something else.
    Batch,
    /// It belongs to the platform.
    System,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::Training, Self::Inference, Self::Notebook, Self::Batch, Self::System];

    /// The word used in files and in `workload.role`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Inference => "inference",
            Self::Notebook => "notebook",
            Self::Batch => "batch",
            Self::System => "system",
        }
    }
}

/// A limit on the bytes sent to one destination.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The destination as written: a name with wildcards, or a network.
    pub to: String,
    destination: Destination,
    /// Most bytes in any period.
    pub bytes_max: u64,
    /// The period in nanoseconds.
    pub per_ns: u64,
}

#[derive(Clone, Debug)]
enum Destination {
    Name(GlobMatcher),
    Net(NetSet),
}

impl Budget {
    /// Whether bytes to this peer count against the budget.
    pub fn covers(&self, ip: IpAddr, name: Option<&str>) -> bool {
        match &self.destination {
            Destination::Name(glob) => name.is_some_and(|name| glob.is_match(name)),
            Destination::Net(nets) => nets.contains(ip),
        }
    }
}

/// A class of workload.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
pub struct Profile {
    /// Its id: `workload.profile`.
    pub id: ProfileId,
    /// The role it declares: `workload.role`.
    pub role: Option<Role>,
    /// Whether its workloads are isolated: `workload.isolated`.
    pub isolated: bool,
    /// Whether the other processes of the same job are peers. Who they are is not known here.
    pub same_job: bool,
    /// Byte budgets.
    pub budgets: Vec<Budget>,
    /// Globs of the paths at which its weights lie, as written.
    pub weight_paths: Vec<String>,
    /// Whether those files are protected.
    pub weights_protected: bool,
    /// File it was read from.
    pub source: String,
    /// The condition that selects its workloads, as written.
    pub match_text: String,
    /// Fields that condition reads.
    pub fields: Vec<FieldId>,
    matches: Predicate,
    open: NetSet,
    ported: PortedPeers,
    names: GlobSet,
    weights: GlobSet,
    loopback: bool,
    dns: bool,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("isolated", &self.isolated)
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// Whether its condition selects the workload these facts belong to.
    pub fn matches(&self, facts: &dyn Facts) -> bool {
        (self.matches)(facts, &Vars::default())
    }

    /// Whether a flow to this peer is allowed. `name` is the observed DNS name of the address,
    /// lower case, if there is one. Peers of the same job are the caller's to know: see
    /// [`Self::same_job`].
    pub fn allows(&self, ip: IpAddr, port: u16, name: Option<&str>) -> bool {
        let ip = ip.to_canonical();
        (self.loopback && ip.is_loopback())
            || (self.dns && port == DNS_PORT)
            || self.open.contains(ip)
            || self.ported.allows(ip, port)
            || name.is_some_and(|name| self.names.is_match(name))
    }

    /// Whether a file at `path` is one of its weights.
    pub fn is_weight(&self, path: &str) -> bool {
        self.weights.is_match(path)
    }
}

/// Every profile, in the order in which they are tried.
#[derive(Debug, Default)]
pub struct ProfileSet {
    profiles: Vec<Arc<Profile>>,
}

impl ProfileSet {
    pub(crate) fn of(profiles: Vec<Profile>) -> Self {
        Self { profiles: profiles.into_iter().map(Arc::new).collect() }
    }

    /// The profile of the workload these facts belong to: the first, in order of file name and
    /// of declaration, whose condition matches. Put the more particular profile first.
    pub fn select(&self, facts: &dyn Facts) -> Option<&Arc<Profile>> {
        self.profiles.iter().find(|profile| profile.matches(facts))
    }

    /// The profile called `id`.
    pub fn get(&self, id: &ProfileId) -> Option<&Arc<Profile>> {
        self.profiles.iter().find(|profile| profile.id == *id)
    }

    /// Every profile, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.profiles.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }
}

/// Checks a profile; every mistake is reported. The span is that of its id.
pub(crate) fn check(
    raw: RawProfile,
    names: &Names,
    sink: &Sink,
) -> Result<(Profile, Span), Reported> {
    let mistakes = sink.len();
    let id = raw.id.as_ref().map(|id| check_id(id, "profile", sink));
    let role = raw.role.as_ref().and_then(|role| check_role(role, sink));
    let condition = raw.match_.as_ref().map(|text| check_match(text, names, sink));
    let mut peers = Peers::default();
    for node in raw.peers {
        peers.add(node, names, sink);
    }
    if peers.ported.len() > PEERS_MAX {
        sink.error(raw.span, format!("the profile has more than {PEERS_MAX} peers with ports"));
    }
    if let Some(extra) = raw.budgets.get(BUDGETS_MAX) {
        sink.error(extra.span, format!("a profile has at most {BUDGETS_MAX} budgets"));
    }
    let budgets = raw.budgets.into_iter().filter_map(|node| check_budget(node, sink)).collect();
    let dns_names = glob_set(&raw.names, false, sink);
    let weights = glob_set(&raw.weight_paths, true, sink);
    if raw.protect && raw.weight_paths.is_empty() {
        sink.error(raw.span, "`protect` is set, but `weights` names no `paths`");
    }
    if sink.len() > mistakes {
        return Err(Reported);
    }
    let (place, match_text) = (raw.id.ok_or(Reported)?, raw.match_.ok_or(Reported)?.value);
    let condition = condition.ok_or(Reported)??;
    id.ok_or(Reported)??;
    let profile = Profile {
        id: ProfileId::from(place.value.as_str()),
        role,
        isolated: raw.isolated,
        same_job: peers.same_job,
        budgets,
        weight_paths: raw.weight_paths.into_iter().map(|path| path.value).collect(),
        weights_protected: raw.protect,
        source: sink.documents[place.span.document].name.to_string(),
        match_text,
        fields: condition.fields.iter().copied().collect(),
        matches: condition.predicate(),
        open: NetSet::of(peers.open),
        ported: PortedPeers::of(&peers.ported),
        names: dns_names?,
        weights: weights?,
        loopback: raw.loopback || peers.loopback,
        dns: raw.dns,
    };
    Ok((profile, place.span))
}

fn check_role(role: &Located<String>, sink: &Sink) -> Option<Role> {
    let found = Role::ALL.into_iter().find(|known| known.as_str() == role.value);
    if found.is_none() {
        let help = suggest(&role.value, Role::ALL.map(Role::as_str));
        sink.error_help(role.span, format!("unknown role `{}`", role.value), help);
    }
    found
}

/// Families of fields that say who a workload is. What it does cannot select its profile: that
/// would change with each event.
const MATCH_FAMILIES: [&str; 6] = ["k8s", "slurm", "container", "unit", "workload", "proc"];
/// Fields of those families that follow from the profile, or from what the workload did.
const MATCH_NOT: [FieldId; 6] = [
    FieldId::WorkloadProfile,
    FieldId::WorkloadRole,
    FieldId::WorkloadIsolated,
    FieldId::WorkloadBytesReadFiles,
    FieldId::WorkloadEgressBytes,
    FieldId::WorkloadStratumSeen,
];

fn check_match(text: &Located<String>, names: &Names, sink: &Sink) -> Result<Condition, Reported> {
    let context = Context { sink, names, kinds: KindSet::ALL, vars: &[] };
    let condition = Condition::of(text, &context)?;
    for id in &condition.fields {
        let family = id.name().split('.').next().unwrap_or_default();
        if !MATCH_FAMILIES.contains(&family) || MATCH_NOT.contains(id) {
            let start = text.value.find(id.name()).unwrap_or(0);
            let from = text.value[..start].chars().count();
            let spot = super::yaml::within(sink, text, from, from + id.name().len());
            return Err(sink.error_help(
                spot,
                format!("`{}` cannot select a profile", id.name()),
                "select by what a workload is: k8s, slurm, container, unit, proc, or workload.id, \
                 .kind, .name, .cgroup",
            ));
        }
    }
    if let Some(why) = condition.impossible(KindSet::ALL) {
        return Err(sink.error(text.span, format!("the profile can never match: {why}")));
    }
    Ok(condition)
}

#[derive(Default)]
struct Peers {
    same_job: bool,
    loopback: bool,
    open: Vec<ipnet::IpNet>,
    ported: Vec<PortedPeer>,
}

impl Peers {
    fn add(&mut self, node: Node, names: &Names, sink: &Sink) {
        if let Yaml::Text(word) = &node.value {
            match word.as_str() {
                "same_job" => self.same_job = true,
                "loopback" => self.loopback = true,
                net => {
                    if let Some(net) = parse_net(net) {
                        self.open.push(net);
                        return;
                    }
                    let help = "expected same_job, loopback, `cidr: 10.0.0.0/8` or \
                                    `{cidr: 10.0.0.0/8, ports: [443]}`";
                    sink.error_help(node.span, format!("unknown peer `{net}`"), help);
                }
            }
            return;
        }
        let Some(mut entries) = Entries::of(node, "a peer", sink) else { return };
        let head = entries.head();
        let nets = entries.take("cidr").map(|node| read_nets(node, names, sink));
        let ports = entries.take("ports").map(|node| read_ports(node, sink));
        entries.finish();
        match (nets, ports) {
            (None, None) => {
                sink.error(head, "the peer has neither `cidr` nor `ports`");
            }
            (Some(nets), None) => self.open.extend(nets),
            (nets, Some(ports)) => {
                self.ported.push(PortedPeer { nets, ports });
            }
        }
    }
}

/// One network or several.
fn read_nets(node: Node, names: &Names, sink: &Sink) -> Vec<ipnet::IpNet> {
    let items = match &node.value {
        Yaml::List(_) => list(node, "`cidr`", sink),
        _ => vec![node],
    };
    let mut nets = Vec::with_capacity(items.len());
    for item in items {
        let Some(word) = text(item, "`cidr`", sink) else { continue };
        if let Some(net) = parse_net(&word.value) {
            nets.push(net);
            continue;
        }
        let listed = names.lists.contains_key(&word.value);
        let help = if listed {
            "a list has no meaning here; write the networks"
        } else {
            "write an address and a prefix length, such as `10.0.0.0/8`"
        };
        sink.error_help(word.span, format!("`{}` is not a network", word.value), help);
    }
    nets
}

/// Ports and ranges of ports: `[443, 8000-8100]`.
fn read_ports(node: Node, sink: &Sink) -> Vec<RangeInclusive<u16>> {
    let mut ports = Vec::new();
    for item in list(node, "`ports`", sink) {
        let Some(word) = text(item, "a port", sink) else { continue };
        let (first, last) = word.value.split_once('-').unwrap_or((&word.value, &word.value));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last => ports.push(first..=last),
            _ => {
                let help = "write a port such as `443` or a range such as `8000-8100`";
                sink.error_help(word.span, format!("`{}` is not a port", word.value), help);
            }
        }
    }
    ports
}

fn check_budget(node: Node, sink: &Sink) -> Option<Budget> {
    let mut entries = Entries::of(node, "a budget", sink)?;
    let to = entries.need_text("to", "the budget");
    let bytes = entries.need_text("bytes", "the budget");
    let per = entries.need_text("per", "the budget");
    entries.finish();
    let bytes_max = bytes.and_then(|text| {
        let amount = parse_bytes(&text.value);
        if amount.is_none() {
            let help = "write a whole number of bytes, or an amount such as `500.gib`";
            sink.error_help(text.span, format!("`{}` is not an amount", text.value), help);
        }
        amount
    });
    let per_ns = per.and_then(|text| {
        let span_ns = read_span(&text, sink).ok()?;
        if span_ns == 0 || span_ns > BUDGET_NS_MAX {
            sink.error(text.span, format!("`per` is {}, allowed is up to 30d", text.value));
            return None;
        }
        Some(span_ns)
    });
    let to = to?;
    let destination = match parse_net(&to.value) {
        Some(net) => Destination::Net(NetSet::of([net])),
        None => Destination::Name(glob(&to, false, sink).ok()?.compile_matcher()),
    };
    Some(Budget { to: to.value, destination, bytes_max: bytes_max?, per_ns: per_ns? })
}

fn glob(text: &Located<String>, is_path: bool, sink: &Sink) -> Result<globset::Glob, Reported> {
    let built =
        GlobBuilder::new(&text.value).literal_separator(is_path).case_insensitive(!is_path).build();
    built.map_err(|error| {
        sink.error(text.span, format!("`{}` is not a glob: {}", text.value, error.kind()))
    })
}

fn glob_set(texts: &[Located<String>], is_path: bool, sink: &Sink) -> Result<GlobSet, Reported> {
    let mut builder = GlobSetBuilder::new();
    let mut failed = None;
    for text in texts {
        match glob(text, is_path, sink) {
            Ok(glob) => {
                builder.add(glob);
            }
            Err(reported) => failed = Some(reported),
        }
    }
    if let Some(reported) = failed {
        return Err(reported);
    }
    builder.build().map_err(|error| {
        let span = texts.first().map(|text| text.span).unwrap_or_default();
        sink.error(span, format!("the globs are too large together: {error}"))
    })
}
