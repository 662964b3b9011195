//! What is wrong between the hosts: who cannot hear whom, and whose messages
//! are held back.
//!
//! Several faults may want the same link down; it comes back when the last of
//! them is over. So each is counted, and turmoil is told of the sum.

use std::collections::{BTreeMap, BTreeSet};

/// The links between all hosts.
#[derive(Debug, Default)]
pub(crate) struct Links {
    hosts: BTreeSet<String>,
    unplugged: BTreeSet<String>,
    /// Hosts whose messages wait, in both directions.
    stopped: BTreeSet<String>,
    /// How many faults cut `(from, to)`.
    cuts: BTreeMap<(String, String), u32>,
    /// How many faults hold the messages of a pair, both ways.
    holds: BTreeMap<(String, String), u32>,
}

/// What a fault does to links, and takes back when it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Harm {
    /// Messages that are not delivered, from one host to another.
    pub(crate) cuts: BTreeSet<(String, String)>,
    /// Pairs, the lesser name first, whose messages wait.
    pub(crate) holds: BTreeSet<(String, String)>,
}

impl Harm {
    /// Cuts both ways between each of `one` and each of `other`.
    pub(crate) fn between(one: &[String], other: &[String]) -> Self {
        let mut harm = Self::default();
        for a in one {
            for b in other.iter().filter(|b| *b != a) {
                harm.cuts.insert((a.clone(), b.clone()));
                harm.cuts.insert((b.clone(), a.clone()));
            }
        }
        harm
    }

    /// Cuts what `from` send to `to`.
    pub(crate) fn one_way(from: &[String], to: &[String]) -> Self {
        let pairs = from.iter().flat_map(|a| to.iter().filter(move |b| *b != a).map(move |b| (a.clone(), b.clone())));
        Self { cuts: pairs.collect(), holds: BTreeSet::new() }
    }

    /// Holds what passes between `host` and all `others`.
    pub(crate) fn hold(host: &str, others: &[String]) -> Self {
        let pairs = others.iter().filter(|other| *other != host).map(|other| pair(host, other));
        Self { cuts: BTreeSet::new(), holds: pairs.collect() }
    }
}

/// The same pair has the same key, whoever is named first.
fn pair(a: &str, b: &str) -> (String, String) {
    if a < b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}

impl Links {
    pub(crate) fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        Self { hosts: hosts.into_iter().collect(), ..Self::default() }
    }

    /// Another host is there.
    pub(crate) fn add(&mut self, host: &str) {
        self.hosts.insert(host.to_owned());
    }

    /// All hosts.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.hosts.iter().cloned().collect()
    }

    /// Does harm to links.
    pub(crate) fn harm(&mut self, sim: &turmoil::Sim<'_>, harm: &Harm) {
        for cut in &harm.cuts {
            *self.cuts.entry(cut.clone()).or_default() += 1;
        }
        for hold in &harm.holds {
            *self.holds.entry(hold.clone()).or_default() += 1;
        }
        self.tell(sim, harm);
    }

    /// Takes it back.
    pub(crate) fn mend(&mut self, sim: &turmoil::Sim<'_>, harm: &Harm) {
        for cut in &harm.cuts {
            less(&mut self.cuts, cut);
        }
        for hold in &harm.holds {
            less(&mut self.holds, hold);
        }
        self.tell(sim, harm);
    }

    /// Nothing passes to or from `host` any more.
    pub(crate) fn unplug(&mut self, sim: &turmoil::Sim<'_>, host: &str) {
        self.unplugged.insert(host.to_owned());
        self.tell_of(sim, host);
    }

    /// Takes [`Self::unplug`] back.
    pub(crate) fn plug(&mut self, sim: &turmoil::Sim<'_>, host: &str) {
        if self.unplugged.remove(host) {
            self.tell_of(sim, host);
        }
    }

    /// What passes to and from `host` waits from now on.
    pub(crate) fn stop(&mut self, sim: &turmoil::Sim<'_>, host: &str) {
        self.stopped.insert(host.to_owned());
        self.tell_of(sim, host);
    }

    /// Takes [`Self::stop`] back.
    pub(crate) fn let_go(&mut self, sim: &turmoil::Sim<'_>, host: &str) {
        if self.stopped.remove(host) {
            self.tell_of(sim, host);
        }
    }

    /// Brings the links of a host to what is wanted of them, whatever was done
    /// to them behind this one's back.
    pub(crate) fn restore(&self, sim: &turmoil::Sim<'_>, host: &str) {
        self.tell_of(sim, host);
    }

    /// [`Self::restore`] for all hosts.
    pub(crate) fn restore_all(&self, sim: &turmoil::Sim<'_>) {
        for host in &self.hosts {
            self.tell_of(sim, host);
        }
    }

    fn tell_of(&self, sim: &turmoil::Sim<'_>, host: &str) {
        for other in self.hosts.iter().filter(|other| *other != host) {
            self.set(sim, &pair(host, other));
        }
    }

    fn tell(&self, sim: &turmoil::Sim<'_>, harm: &Harm) {
        let touched: BTreeSet<_> =
            harm.cuts.iter().map(|(a, b)| pair(a, b)).chain(harm.holds.iter().cloned()).collect();
        for touched in touched {
            self.set(sim, &touched);
        }
    }

    /// Brings turmoil's state of a pair to what is wanted of it.
    fn set(&self, sim: &turmoil::Sim<'_>, (a, b): &(String, String)) {
        let unplugged = self.unplugged.contains(a) || self.unplugged.contains(b);
        let cut = |from: &String, to: &String| unplugged || self.cuts.contains_key(&(from.clone(), to.clone()));
        let stopped = self.stopped.contains(a) || self.stopped.contains(b);
        if stopped || self.holds.contains_key(&(a.clone(), b.clone())) {
            sim.hold(a.as_str(), b.as_str());
        } else {
            sim.release(a.as_str(), b.as_str());
        }
        // A cut drops what is on its way; it wins over a hold.
        for (from, to) in [(a, b), (b, a)] {
            if cut(from, to) {
                sim.partition_oneway(from.as_str(), to.as_str());
            }
        }
    }
}

fn less(counts: &mut BTreeMap<(String, String), u32>, key: &(String, String)) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn harm_names_every_pair_once() {
        let between = Harm::between(&names(&["a", "b"]), &names(&["b", "c"]));
        let pairs: Vec<_> = between.cuts.iter().map(|(from, to)| format!("{from}{to}")).collect();
        assert_eq!(pairs, ["ab", "ac", "ba", "bc", "ca", "cb"]);
        let one_way = Harm::one_way(&names(&["a"]), &names(&["a", "b"]));
        assert_eq!(one_way.cuts, BTreeSet::from([("a".to_owned(), "b".to_owned())]));
        let hold = Harm::hold("b", &names(&["a", "b", "c"]));
        assert_eq!(hold.holds, BTreeSet::from([pair("a", "b"), pair("c", "b")]));
    }

    #[test]
    fn a_link_comes_back_with_the_last_fault() {
        let sim = turmoil::Builder::new().build();
        let mut links = Links::default();
        let harm = Harm { cuts: BTreeSet::from([("a".to_owned(), "b".to_owned())]), holds: BTreeSet::new() };
        let empty = Harm::default();
        links.harm(&sim, &empty);
        for cut in &harm.cuts {
            *links.cuts.entry(cut.clone()).or_default() += 2;
        }
        less(&mut links.cuts, &("a".to_owned(), "b".to_owned()));
        assert_eq!(links.cuts.len(), 1);
        less(&mut links.cuts, &("a".to_owned(), "b".to_owned()));
        assert!(links.cuts.is_empty());
    }
}
