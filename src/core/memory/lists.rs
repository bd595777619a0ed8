//! Doubly linked lists threaded through the table's records: no allocation, O(1) removal without knowing the list.
//!
//! A list's two ends are written into its outermost nodes as `END | list`, so a node finds the list it leads or closes.
//! A record carries three independent pairs of links ([`RECENCY`], [`WHEEL`], [`PEERS`]).

/// Order of use, the eviction policy's.
pub const RECENCY: usize = 0;
/// The bucket of the expiry wheel.
pub const WHEEL: usize = 1;
/// All entries of one group.
pub const PEERS: usize = 2;

/// No node and no list.
pub const NIL: u32 = u32::MAX;
const END: u32 = 1 << 31;

/// A node's neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    before: u32,
    after: u32,
}

impl Default for Links {
    fn default() -> Self {
        Links { before: NIL, after: NIL }
    }
}

/// Records with links, by number.
pub trait Linked<const LINK: usize> {
    /// A record's neighbours.
    fn links(&self, id: u32) -> &Links;
    /// The same, to be changed.
    fn links_mut(&mut self, id: u32) -> &mut Links;
}

/// A family of lists over the same pair of links.
#[derive(Debug, Default)]
pub struct Lists<const LINK: usize> {
    /// (first, last) of each list.
    ends: Vec<(u32, u32)>,
}

impl<const LINK: usize> Lists<LINK> {
    /// `count` empty lists, numbered from 0.
    pub fn new(count: u32) -> Self {
        Lists { ends: (0..count).map(|list| (END | list, END | list)).collect() }
    }

    /// Makes one more empty list, and tells its number.
    pub fn add(&mut self) -> u32 {
        let list = self.ends.len() as u32;
        self.ends.push((END | list, END | list));
        list
    }

    /// The first node, [`NIL`] when empty.
    #[inline]
    pub fn first(&self, list: u32) -> u32 {
        let first = self.ends[list as usize].0;
        if first & END == 0 { first } else { NIL }
    }

    /// The last node, [`NIL`] when empty.
    #[inline]
    pub fn last(&self, list: u32) -> u32 {
        let last = self.ends[list as usize].1;
        if last & END == 0 { last } else { NIL }
    }

    /// The node before `node`, [`NIL`] at the front.
    #[inline]
    pub fn previous(&self, nodes: &impl Linked<LINK>, node: u32) -> u32 {
        let before = nodes.links(node).before;
        if before & END == 0 { before } else { NIL }
    }

    /// The node after `node`, [`NIL`] at the end.
    pub fn next(&self, nodes: &impl Linked<LINK>, node: u32) -> u32 {
        let next = nodes.links(node).after;
        if next & END == 0 { next } else { NIL }
    }

    /// Puts an unlinked node at the front.
    #[inline]
    pub fn push_front(&mut self, nodes: &mut impl Linked<LINK>, list: u32, node: u32) {
        let ends = &mut self.ends[list as usize];
        *nodes.links_mut(node) = Links { before: END | list, after: ends.0 };
        if ends.0 & END == 0 {
            nodes.links_mut(ends.0).before = node;
        } else {
            ends.1 = node;
        }
        ends.0 = node;
    }

    /// Puts an unlinked node at the back.
    #[inline]
    pub fn push_back(&mut self, nodes: &mut impl Linked<LINK>, list: u32, node: u32) {
        let ends = &mut self.ends[list as usize];
        *nodes.links_mut(node) = Links { before: ends.1, after: END | list };
        if ends.1 & END == 0 {
            nodes.links_mut(ends.1).after = node;
        } else {
            ends.0 = node;
        }
        ends.1 = node;
    }

    /// Takes a node out of whichever list holds it; an unlinked node is left alone.
    #[inline]
    pub fn remove(&mut self, nodes: &mut impl Linked<LINK>, node: u32) {
        let Links { before: previous, after: next } = *nodes.links(node);
        if previous != NIL {
            self.join(nodes, previous, next);
            *nodes.links_mut(node) = Links { before: NIL, after: NIL };
        }
    }

    /// Moves a node that is in the list, and not its first, to the front. What `remove` and `push_front` would do, with half
    /// the work: the most frequent change of all.
    #[inline]
    pub fn to_front(&mut self, nodes: &mut impl Linked<LINK>, list: u32, node: u32) {
        let ends = &mut self.ends[list as usize];
        let Links { before: previous, after: next } = *nodes.links(node);
        nodes.links_mut(previous).after = next;
        if next & END == 0 {
            nodes.links_mut(next).before = previous;
        } else {
            ends.1 = previous;
        }
        nodes.links_mut(ends.0).before = node;
        *nodes.links_mut(node) = Links { before: END | list, after: ends.0 };
        ends.0 = node;
    }

    /// Moves all of `from` behind the last node of `to`, in O(1).
    pub fn append(&mut self, nodes: &mut impl Linked<LINK>, to: u32, from: u32) {
        let (first, last) = self.ends[from as usize];
        if first & END == 0 {
            let tail = self.ends[to as usize].1;
            self.join(nodes, tail, first);
            self.join(nodes, last, END | to);
            self.ends[from as usize] = (END | from, END | from);
        }
    }

    /// Makes `b` follow `a`; either may be the end of a list.
    #[inline]
    fn join(&mut self, nodes: &mut impl Linked<LINK>, a: u32, b: u32) {
        if a & END != 0 {
            self.ends[(a & !END) as usize].0 = b;
        } else {
            nodes.links_mut(a).after = b;
        }
        if b & END != 0 {
            self.ends[(b & !END) as usize].1 = a;
        } else {
            nodes.links_mut(b).before = a;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Nodes;
    use super::*;

    fn order(lists: &Lists<WHEEL>, nodes: &Nodes, list: u32) -> Vec<u32> {
        let mut out = Vec::new();
        let mut node = lists.first(list);
        while node != NIL {
            out.push(node);
            node = lists.next(nodes, node);
        }
        out
    }

    #[test]
    fn nodes_leave_from_anywhere_and_lists_join_in_order() {
        let mut nodes = Nodes::default();
        for _ in 0..6 {
            nodes.push();
        }
        let mut lists = Lists::<WHEEL>::new(2);
        for node in 0..3 {
            lists.push_back(&mut nodes, 0, node);
        }
        for node in 3..6 {
            lists.push_front(&mut nodes, 1, node);
        }
        lists.append(&mut nodes, 0, 1);
        assert_eq!(order(&lists, &nodes, 0), [0, 1, 2, 5, 4, 3]);
        assert_eq!(order(&lists, &nodes, 1), [0; 0]);
        for node in [0, 3, 5] {
            lists.remove(&mut nodes, node);
        }
        lists.remove(&mut nodes, 5);
        assert_eq!(order(&lists, &nodes, 0), [1, 2, 4]);
        lists.to_front(&mut nodes, 0, 4);
        lists.to_front(&mut nodes, 0, 1);
        assert_eq!(order(&lists, &nodes, 0), [1, 4, 2]);
        lists.to_front(&mut nodes, 0, 2);
        lists.to_front(&mut nodes, 0, 4);
        lists.to_front(&mut nodes, 0, 2);
        lists.to_front(&mut nodes, 0, 1);
        lists.to_front(&mut nodes, 0, 2);
        lists.to_front(&mut nodes, 0, 1);
        assert_eq!(order(&lists, &nodes, 0), [1, 2, 4]);
        assert_eq!((lists.first(0), lists.last(0)), (1, 4));
    }
}
