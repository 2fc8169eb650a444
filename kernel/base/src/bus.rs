//! Device tree addresses as the CPUs see them: a node's `reg` counts on its parent's bus, and the `ranges` of every bus above
//! translate it (Devicetree Specification 0.4, 2.3.8). [`Place`] is a node with the buses above it; [`find`] and [`visit`] make
//! places.

use arrayvec::ArrayVec;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Status};
use dtoolkit::{Node, Property, ToCellInt};

/// Nodes above another, the root not counted: the deepest device that is found.
const DEEPEST: usize = 6;

/// A node of the tree, and its parents from the root's child on.
#[derive(Clone)]
pub struct Place<'a> {
    pub node: FdtNode<'a>,
    buses: ArrayVec<FdtNode<'a>, DEEPEST>,
}

impl<'a> Place<'a> {
    /// The `index`th register range, as an address of the CPUs' and a length in bytes. `None` when there is no such range, and
    /// for devices whose bus the CPUs do not reach.
    pub fn reg(&self, index: usize) -> Option<(u64, u64)> {
        let (address, len) = self.bus_reg(index)?;
        let address = self.buses.iter().rev().try_fold(address, |address, bus| translate(*bus, address, len))?;
        Some((address, len))
    }
    /// The `index`th register range as the node's own bus counts.
    pub fn bus_reg(&self, index: usize) -> Option<(u64, u64)> {
        let reg = self.node.reg().ok()??.nth(index)?;
        Some((reg.address::<u64>().ok()?, reg.size::<u64>().ok()?))
    }
    pub fn is_disabled(&self) -> bool {
        matches!(self.node.status(), Ok(Status::Disabled))
    }
    /// A property of one cell.
    pub fn cell(&self, name: &str) -> Option<u32> {
        cell(self.node, name)
    }
}

/// A property's value as cells; none when it is no whole number of them.
pub fn cells<'a>(node: FdtNode<'a>, name: &str) -> impl Iterator<Item = u32> + use<'a> {
    let values = node.property(name).and_then(|property| property.as_prop_encoded_array([1]).ok());
    values.into_iter().flatten().map(|[value]| value.to_int().unwrap_or(0))
}

fn cell(node: FdtNode<'_>, name: &str) -> Option<u32> {
    Some(u32::from_be_bytes(node.property(name)?.value().try_into().ok()?))
}

/// The address on the bus above `bus` of `address` on it. A bus without `ranges` is closed; with empty ones it changes nothing.
fn translate(bus: FdtNode<'_>, address: u64, len: u64) -> Option<u64> {
    if bus.property("ranges")?.value().is_empty() {
        return Some(address);
    }
    bus.ranges().ok()??.find_map(|range| {
        let offset = address.checked_sub(range.child_bus_address::<u64>().ok()?)?;
        let fits = offset.checked_add(len)? <= range.length::<u64>().ok()?;
        if fits { range.parent_bus_address::<u64>().ok()?.checked_add(offset) } else { None }
    })
}

/// The node at `path`, from the root: `/soc/serial@7e201000`.
pub fn find<'a>(fdt: Fdt<'a>, path: &str) -> Option<Place<'a>> {
    let mut place = Place { node: fdt.root(), buses: ArrayVec::new() };
    for (depth, name) in path.strip_prefix('/')?.split('/').filter(|name| !name.is_empty()).enumerate() {
        if depth > 0 {
            place.buses.try_push(place.node).ok()?;
        }
        place.node = place.node.child(name)?;
    }
    Some(place)
}

/// The node that an alias names.
pub fn find_alias<'a>(fdt: Fdt<'a>, alias: &str) -> Option<Place<'a>> {
    let property = fdt.find_node("/aliases")?.property(alias)?;
    let path = property.value().split(|&byte| byte == 0).next()?;
    find(fdt, core::str::from_utf8(path).ok()?)
}

/// Calls `each` with every device of the tree, parents first, until it answers `Some`. What is disabled is passed over, with
/// everything below it.
pub fn visit<'a, R>(fdt: Fdt<'a>, each: &mut dyn FnMut(&Place<'a>) -> Option<R>) -> Option<R> {
    fn below<'a, R>(place: &Place<'a>, each: &mut dyn FnMut(&Place<'a>) -> Option<R>) -> Option<R> {
        place.node.children().find_map(|node| {
            let mut buses = place.buses.clone();
            // The root is no bus.
            let is_root = place.node.name().is_empty();
            if !is_root && buses.try_push(place.node).is_err() {
                return None;
            }
            let child = Place { node, buses };
            if child.is_disabled() {
                return None;
            }
            each(&child).or_else(|| below(&child, each))
        })
    }
    below(&Place { node: fdt.root(), buses: ArrayVec::new() }, each)
}

/// The first device that is compatible with one of `names`.
pub fn find_compatible<'a>(fdt: Fdt<'a>, names: &[&str]) -> Option<Place<'a>> {
    visit(fdt, &mut |place| names.iter().any(|name| place.node.is_compatible(name)).then(|| place.clone()))
}

/// The device with this phandle.
pub fn find_phandle(fdt: Fdt<'_>, phandle: u32) -> Option<Place<'_>> {
    visit(fdt, &mut |place| (place.cell("phandle") == Some(phandle)).then(|| place.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a flattened device tree, piece by piece.
    struct Writer {
        structure: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Writer {
        fn word(&mut self, value: u32) -> &mut Self {
            self.structure.extend(value.to_be_bytes());
            self
        }
        fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
            self.structure.extend(bytes);
            self.structure.resize(self.structure.len().next_multiple_of(4), 0);
            self
        }
        fn open(&mut self, name: &str) -> &mut Self {
            self.word(1).bytes(&[name.as_bytes(), b"\0"].concat())
        }
        fn close(&mut self) -> &mut Self {
            self.word(2)
        }
        fn property(&mut self, name: &str, value: &[u8]) -> &mut Self {
            let at = self.strings.len() as u32;
            self.strings.extend(name.as_bytes());
            self.strings.push(0);
            self.word(3).word(value.len() as u32).word(at).bytes(value)
        }
        fn cells(&mut self, name: &str, values: &[u32]) -> &mut Self {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
            self.property(name, &bytes)
        }
        fn finish(&mut self) -> Vec<u8> {
            self.word(9);
            let structure_at = 40 + 16;
            let strings_at = structure_at + self.structure.len() as u32;
            let total = strings_at + self.strings.len() as u32;
            let header = [
                0xd00d_feed,
                total,
                structure_at,
                strings_at,
                40,
                17,
                16,
                0,
                self.strings.len() as u32,
                self.structure.len() as u32,
            ];
            let mut tree: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
            tree.extend([0; 16]);
            tree.extend(&self.structure);
            tree.extend(&self.strings);
            tree
        }
    }

    /// The buses of the BCM2711's tree: 1 cell below `soc`, 2 below `scb`, 2 at the root.
    fn tree() -> Vec<u8> {
        let mut writer = Writer { structure: Vec::new(), strings: Vec::new() };
        writer.open("").cells("#address-cells", &[2]).cells("#size-cells", &[1]);
        writer.open("aliases").property("serial0", b"/soc/serial@7e201000\0").close();
        writer.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        let windows = [
            0x7e00_0000,
            0,
            0xfe00_0000,
            0x180_0000,
            0x7c00_0000,
            0,
            0xfc00_0000,
            0x200_0000,
            0x4000_0000,
            0,
            0xff80_0000,
            0x80_0000,
        ];
        writer.cells("ranges", &windows);
        writer
            .open("serial@7e201000")
            .property("compatible", b"arm,pl011\0arm,primecell\0")
            .cells("reg", &[0x7e20_1000, 0x200]);
        writer.cells("phandle", &[7]).close();
        writer.open("gic@40041000").property("compatible", b"arm,gic-400\0");
        writer.cells("reg", &[0x4004_1000, 0x1000, 0x4004_2000, 0x2000]).close();
        writer.open("across").cells("reg", &[0x7f7f_ff00, 0x200]).close();
        writer.open("outside").cells("reg", &[0x1000, 0x200]).close();
        writer.open("off").property("status", b"disabled\0").property("compatible", b"x,off\0");
        writer.open("below").property("compatible", b"x,below\0").close().close();
        writer.open("same").cells("#address-cells", &[1]).cells("#size-cells", &[1]).property("ranges", &[]);
        writer.open("inner").property("compatible", b"x,inner\0").cells("reg", &[0x7e00_0010, 4]).close().close();
        writer.open("closed").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        writer.open("chip").property("compatible", b"x,chip\0").cells("reg", &[0x50, 1]).close().close();
        writer.close();
        writer.open("scb").cells("#address-cells", &[2]).cells("#size-cells", &[1]);
        writer.cells("ranges", &[0, 0x7c00_0000, 0, 0xfc00_0000, 0x380_0000, 6, 0, 6, 0, 0x4000_0000]);
        writer.open("ethernet@7d580000").property("compatible", b"brcm,bcm2711-genet-v5\0");
        writer.cells("reg", &[0, 0x7d58_0000, 0x1_0000]).close();
        writer.open("high").cells("reg", &[6, 0x1000, 0x10]).close();
        writer.close();
        writer.close().finish()
    }

    #[test]
    fn addresses_go_through_every_bus() {
        let tree = tree();
        let fdt = Fdt::new(&tree).unwrap();
        let at = |path: &str| find(fdt, path).unwrap();
        assert_eq!(at("/soc/serial@7e201000").reg(0), Some((0xfe20_1000, 0x200)));
        assert_eq!(at("/soc/serial@7e201000").bus_reg(0), Some((0x7e20_1000, 0x200)));
        assert_eq!(at("/soc/gic@40041000").reg(1), Some((0xff84_2000, 0x2000)));
        assert_eq!(at("/soc/gic@40041000").reg(2), None);
        assert_eq!(at("/scb/ethernet@7d580000").reg(0), Some((0xfd58_0000, 0x1_0000)));
        assert_eq!(at("/scb/high").reg(0), Some((0x6_0000_1000, 0x10)));
        assert_eq!(at("/soc/same/inner").reg(0), Some((0xfe00_0010, 4)));
    }

    #[test]
    fn what_no_cpu_reaches_has_no_address() {
        let tree = tree();
        let fdt = Fdt::new(&tree).unwrap();
        for path in ["/soc/across", "/soc/outside", "/soc/closed/chip", "/soc"] {
            assert_eq!(find(fdt, path).unwrap().reg(0), None, "{path}");
        }
        assert!(find(fdt, "/soc/nothing").is_none());
        assert!(find(fdt, "soc").is_none());
    }

    #[test]
    fn devices_are_found_by_name_alias_and_phandle() {
        let tree = tree();
        let fdt = Fdt::new(&tree).unwrap();
        let address = |place: Option<Place<'_>>| place.and_then(|place| place.reg(0)).map(|(address, _)| address);
        assert_eq!(cells(find(fdt, "/scb/high").unwrap().node, "reg").collect::<Vec<_>>(), [6, 0x1000, 0x10]);
        assert_eq!(address(find_compatible(fdt, &["x,other", "arm,primecell"])), Some(0xfe20_1000));
        assert_eq!(address(find_compatible(fdt, &["x,inner"])), Some(0xfe00_0010));
        assert_eq!(address(find_alias(fdt, "serial0")), Some(0xfe20_1000));
        assert_eq!(address(find_phandle(fdt, 7)), Some(0xfe20_1000));
        assert!(find_alias(fdt, "serial1").is_none() && find_phandle(fdt, 8).is_none());
        assert!(find_compatible(fdt, &["x,off"]).is_none() && find_compatible(fdt, &["x,below"]).is_none());
    }
}
