//! Routes: which interface and which neighbour a packet goes to, by longest prefix, then lowest metric, then age.

use crate::errno::Errno;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most routes there may be.
const MAX_ROUTES: usize = 1024;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The network; unspecified with length 0 is the default route.
    pub destination: IpAddr,
    pub prefix_len: u8,
    pub gateway: Option<IpAddr>,
    pub interface: u32,
    pub metric: u32,
    /// RTPROT_*.
    pub protocol: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// The source address it prefers.
    pub source: Option<IpAddr>,
}

/// The most bits a prefix of such an address can have.
pub fn longest_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `address` with all bits beyond the prefix cleared.
pub fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix_len.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix_len.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl Route {
    /// EINVAL for a prefix that is too long, bits beyond it, or a gateway of the other family.
    pub fn check(&self) -> Result<(), Errno> {
        let is_network = masked(self.destination, self.prefix_len) == self.destination;
        let is_one_family = self.gateway.is_none_or(|gateway| gateway.is_ipv4() == self.destination.is_ipv4());
        let fits = self.prefix_len <= longest_prefix(self.destination);
        if fits && is_network && is_one_family { Ok(()) } else { Err(Errno::EINVAL) }
    }
    fn leads_to(&self, to: IpAddr) -> bool {
        self.destination.is_ipv4() == to.is_ipv4() && masked(to, self.prefix_len) == self.destination
    }
    fn is_to(&self, destination: IpAddr, prefix_len: u8) -> bool {
        self.destination == destination && self.prefix_len == prefix_len
    }
}

/// Routes in the order in which they are tried.
#[derive(Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    pub const fn new() -> Self {
        Self(Vec::new())
    }
    /// EEXIST for one to the same network with the same metric, ENOBUFS when there are too many.
    pub fn insert(&mut self, route: Route) -> Result<(), Errno> {
        let is_same = |old: &Route| old.is_to(route.destination, route.prefix_len) && old.metric == route.metric;
        if self.0.iter().any(is_same) {
            return Err(Errno::EEXIST);
        }
        if self.0.len() >= MAX_ROUTES {
            return Err(Errno::ENOBUFS);
        }
        let key = |route: &Route| (Reverse(route.prefix_len), route.metric);
        let at = self.0.partition_point(|old| key(old) <= key(&route));
        self.0.insert(at, route);
        Ok(())
    }
    /// Takes out the first to this network that fits; `None` and interface 0 fit any. ESRCH.
    pub fn remove(
        &mut self,
        destination: IpAddr,
        prefix_len: u8,
        gateway: Option<IpAddr>,
        interface: u32,
    ) -> Result<Route, Errno> {
        let position = self.0.iter().position(|route| {
            route.is_to(destination, prefix_len)
                && (gateway.is_none() || route.gateway == gateway)
                && (interface == 0 || route.interface == interface)
        });
        Ok(self.0.remove(position.ok_or(Errno::ESRCH)?))
    }
    /// Takes out all that are unwanted.
    pub fn remove_where(&mut self, unwanted: impl Fn(&Route) -> bool) -> Vec<Route> {
        let (gone, kept) = core::mem::take(&mut self.0).into_iter().partition(|route| unwanted(route));
        self.0 = kept;
        gone
    }
    /// The first that leads to `to` and for whose interface `usable` has something to return.
    pub fn find<R>(&self, to: IpAddr, mut usable: impl FnMut(u32) -> Option<R>) -> Option<(&Route, R)> {
        self.0.iter().filter(|route| route.leads_to(to)).find_map(|route| Some((route, usable(route.interface)?)))
    }
    /// All in the order of their networks, as Linux lists them: default routes first.
    pub fn listed(&self) -> Vec<Route> {
        let mut routes = self.0.clone();
        routes.sort_by_key(|route| (route.destination, route.prefix_len, route.metric));
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(network: &str, interface: u32, metric: u32) -> Route {
        let (destination, prefix_len) = network.split_once('/').expect("a prefix");
        Route {
            destination: destination.parse().expect("an address"),
            prefix_len: prefix_len.parse().expect("a length"),
            gateway: None,
            interface,
            metric,
            protocol: 0,
            scope: 0,
            source: None,
        }
    }

    fn routes(all: &[(&str, u32, u32)]) -> Routes {
        let mut routes = Routes::new();
        for (network, interface, metric) in all {
            routes.insert(route(network, *interface, *metric)).expect("a new route");
        }
        routes
    }

    fn way(routes: &Routes, to: &str) -> Option<u32> {
        routes.find(to.parse().expect("an address"), Some).map(|(_, interface)| interface)
    }

    #[test]
    fn the_longest_prefix_goes_first() {
        let routes = routes(&[("0.0.0.0/0", 1, 0), ("10.0.0.0/8", 2, 0), ("10.1.2.3/32", 4, 0), ("10.1.0.0/16", 3, 0)]);
        assert_eq!(["8.8.8.8", "10.9.9.9", "10.1.9.9", "10.1.2.3"].map(|to| way(&routes, to)), [1, 2, 3, 4].map(Some));
        assert_eq!(way(&routes, "::1"), None);
    }

    #[test]
    fn then_the_lowest_metric_then_the_oldest() {
        let routes = routes(&[("0.0.0.0/0", 1, 100), ("0.0.0.0/0", 2, 50), ("::/0", 3, 1024), ("::/0", 4, 256)]);
        assert_eq!((way(&routes, "8.8.8.8"), way(&routes, "2001:db8::1")), (Some(2), Some(4)));
        let usable = |interface| (interface != 2).then_some(interface);
        assert_eq!(routes.find("8.8.8.8".parse().unwrap(), usable).map(|(_, interface)| interface), Some(1));
    }

    #[test]
    fn the_same_again_and_too_many() {
        let mut routes = routes(&[("10.0.0.0/8", 1, 0)]);
        assert_eq!(routes.insert(route("10.0.0.0/8", 2, 0)), Err(Errno::EEXIST));
        assert_eq!(routes.insert(route("10.0.0.0/8", 2, 1)), Ok(()));
        let more = (2..2_000).map(|metric| routes.insert(route("10.0.0.0/8", 1, metric)));
        let results: Vec<_> = more.collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), MAX_ROUTES - 2);
        assert_eq!(results.last(), Some(&Err(Errno::ENOBUFS)));
    }

    #[test]
    fn what_is_no_route() {
        let check = |network| route(network, 1, 0).check();
        assert_eq!((check("10.0.0.0/8"), check("::/0"), check("::1/128")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(
            [check("10.0.0.1/8"), check("10.0.0.0/33"), check("fec0::/9"), check("::/129")],
            [Err(Errno::EINVAL); 4]
        );
        let other_family = Route { gateway: Some("::1".parse().unwrap()), ..route("10.0.0.0/8", 1, 0) };
        assert_eq!(other_family.check(), Err(Errno::EINVAL));
    }

    #[test]
    fn removal() {
        let mut routes = routes(&[("10.0.0.0/8", 1, 0), ("10.0.0.0/8", 2, 1), ("10.0.0.0/16", 1, 0)]);
        let network: IpAddr = "10.0.0.0".parse().unwrap();
        assert_eq!(routes.remove(network, 24, None, 0), Err(Errno::ESRCH));
        assert_eq!(routes.remove(network, 8, Some(network), 0), Err(Errno::ESRCH));
        assert_eq!(routes.remove(network, 8, None, 2).map(|route| route.metric), Ok(1));
        assert_eq!(routes.remove_where(|route| route.interface == 1).len(), 2);
        assert!(routes.listed().is_empty());
    }

    #[test]
    fn listed_by_network() {
        let routes = routes(&[("10.0.0.0/8", 1, 0), ("0.0.0.0/0", 1, 9), ("0.0.0.0/0", 1, 3), ("9.0.0.0/8", 1, 0)]);
        let listed: Vec<(u8, u32)> = routes.listed().iter().map(|route| (route.prefix_len, route.metric)).collect();
        assert_eq!(listed, [(0, 3), (0, 9), (8, 0), (8, 0)]);
    }

    proptest! {
        #[test]
        fn as_a_plain_search_does(all in proptest::collection::vec((any::<u32>(), 0u8..=32, 0u32..4), 0..40), to: u32) {
            let mut routes = Routes::new();
            let mut model: Vec<(u8, u32, u32)> = Vec::new();
            for (number, (address, prefix_len, metric)) in all.into_iter().enumerate() {
                let destination = masked(Ipv4Addr::from_bits(address & to).into(), prefix_len);
                let new = Route { destination, prefix_len, interface: number as u32, metric, ..route("0.0.0.0/0", 0, 0) };
                let leads = masked(Ipv4Addr::from_bits(to).into(), prefix_len) == destination;
                if routes.insert(new).is_ok() && leads {
                    model.push((prefix_len, metric, number as u32));
                }
            }
            let best = model.iter().min_by_key(|(prefix_len, metric, _)| (Reverse(*prefix_len), *metric));
            let found = routes.find(Ipv4Addr::from_bits(to).into(), Some).map(|(_, interface)| interface);
            prop_assert_eq!(found, best.map(|(_, _, number)| *number));
        }
    }
}
