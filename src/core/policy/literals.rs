//! Finds which of many texts occur in a key, in one pass over it however many there are.
//!
//! The automaton of Aho and Corasick ("Efficient string matching", CACM 1975) with its failure links, in flat arrays: one node
//! for each letter of the texts, and a table for the first letter alone. If every text has to stand at the start of the
//! key, the pass ends with the first letter that continues none of them.

/// Texts by number, in the order they were given.
#[derive(Clone, Debug)]
pub struct Literals {
    /// The node after one letter, by that letter; 0 if no text begins with it.
    first: Box<[u32; 256]>,
    nodes: Vec<Node>,
    /// The letters that lead on, and where to; of each node in one stretch.
    edges: Vec<(u8, u32)>,
    /// The texts that end at a node; of each node in one stretch, ascending.
    ends: Vec<u32>,
    only_at_start: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    edges: (u32, u32),
    ends: (u32, u32),
    /// The longest other beginning of a text that the letters so far end with.
    fail: u32,
}

/// A node while it is being built.
#[derive(Default)]
struct Growing {
    edges: Vec<(u8, u32)>,
    ends: Vec<u32>,
    fail: u32,
}

impl Literals {
    /// Learns texts that are not empty. `only_at_start`: no text counts unless the key begins with it.
    pub fn new<'a>(texts: impl Iterator<Item = &'a [u8]>, only_at_start: bool) -> Self {
        let mut nodes = vec![Growing::default()];
        for (number, text) in texts.enumerate() {
            let end = text.iter().fold(0, |node, &letter| grow(&mut nodes, node, letter));
            nodes[end].ends.push(number as u32);
        }
        link(&mut nodes);
        let mut literals = Literals {
            first: Box::new([0; 256]),
            nodes: Vec::new(),
            edges: Vec::new(),
            ends: Vec::new(),
            only_at_start,
        };
        for &(letter, node) in &nodes[0].edges {
            literals.first[usize::from(letter)] = node;
        }
        for mut node in nodes {
            node.ends.sort_unstable();
            let (edges, ends) = (literals.edges.len() as u32, literals.ends.len() as u32);
            literals.edges.extend(node.edges);
            literals.ends.extend(node.ends);
            let (edges, ends) = ((edges, literals.edges.len() as u32), (ends, literals.ends.len() as u32));
            literals.nodes.push(Node { edges, ends, fail: node.fail });
        }
        literals
    }

    /// Calls `found` with where a text ends in the key and the numbers of all that end there, until it says false.
    #[inline]
    pub fn find(&self, key: &[u8], mut found: impl FnMut(usize, &[u32]) -> bool) {
        let mut at = 0;
        for (before, &letter) in key.iter().enumerate() {
            at = loop {
                match self.follow(at, letter) {
                    0 if at != 0 && !self.only_at_start => at = self.nodes[at as usize].fail,
                    next => break next,
                }
            };
            if at == 0 && self.only_at_start {
                return;
            }
            let (start, end) = self.nodes[at as usize].ends;
            if start != end && !found(before + 1, &self.ends[start as usize..end as usize]) {
                return;
            }
        }
    }

    /// The node that a letter leads to; 0 if to none.
    #[inline]
    fn follow(&self, at: u32, letter: u8) -> u32 {
        if at == 0 {
            return self.first[usize::from(letter)];
        }
        let (start, end) = self.nodes[at as usize].edges;
        let edges = &self.edges[start as usize..end as usize];
        // Nearly every node has one or two; those with many are few and met once a key.
        if edges.len() <= 8 {
            return edges.iter().find(|edge| edge.0 == letter).map_or(0, |edge| edge.1);
        }
        edges.binary_search_by_key(&letter, |edge| edge.0).map_or(0, |found| edges[found].1)
    }
}

/// The node that a letter leads to, made if it is not there.
fn grow(nodes: &mut Vec<Growing>, node: usize, letter: u8) -> usize {
    match nodes[node].edges.binary_search_by_key(&letter, |edge| edge.0) {
        Ok(found) => nodes[node].edges[found].1 as usize,
        Err(place) => {
            let made = nodes.len();
            nodes[node].edges.insert(place, (letter, made as u32));
            nodes.push(Growing::default());
            made
        }
    }
}

/// Sets the failure links, from the shortest beginnings to the longest, and collects what ends along them.
fn link(nodes: &mut [Growing]) {
    let mut row: Vec<u32> = nodes[0].edges.iter().map(|edge| edge.1).collect();
    while !row.is_empty() {
        let mut next_row = Vec::new();
        for parent in row {
            let fail = nodes[parent as usize].fail;
            let inherited = nodes[fail as usize].ends.clone();
            nodes[parent as usize].ends.extend(inherited);
            for (letter, child) in nodes[parent as usize].edges.clone() {
                nodes[child as usize].fail = fallback(nodes, fail, letter);
                next_row.push(child);
            }
        }
        row = next_row;
    }
}

fn fallback(nodes: &[Growing], mut at: u32, letter: u8) -> u32 {
    loop {
        let edges = &nodes[at as usize].edges;
        match edges.binary_search_by_key(&letter, |edge| edge.0) {
            Ok(found) => return edges[found].1,
            Err(_) if at == 0 => return 0,
            Err(_) => at = nodes[at as usize].fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_finds_every_text_wherever_it_ends(
            texts in proptest::collection::vec("[abc]{1,4}", 0..12), key in "[abcd]{0,12}", stop in 0..20_usize
        ) {
            let literals = Literals::new(texts.iter().map(|text| text.as_bytes()), false);
            let expected: Vec<(usize, Vec<u32>)> = (1..=key.len())
                .map(|end| {
                    let here = |&number: &u32| key[..end].ends_with(&texts[number as usize]);
                    (end, (0..texts.len() as u32).filter(here).collect())
                })
                .filter(|(_, numbers): &(usize, Vec<u32>)| !numbers.is_empty())
                .collect();
            let mut found = Vec::new();
            literals.find(key.as_bytes(), |end, numbers| {
                found.push((end, numbers.to_vec()));
                found.len() != stop
            });
            let count = if stop == 0 { expected.len() } else { stop.min(expected.len()) };
            prop_assert_eq!(&found, &expected[..count]);
        }

        #[test]
        fn at_the_start_alone_it_finds_what_the_key_begins_with(
            texts in proptest::collection::vec("[abc]{1,4}", 0..12), key in "[abc]{0,9}"
        ) {
            let literals = Literals::new(texts.iter().map(|text| text.as_bytes()), true);
            let mut found: Vec<u32> = Vec::new();
            literals.find(key.as_bytes(), |end, numbers| {
                found.extend(numbers.iter().filter(|&&number| texts[number as usize].len() == end));
                true
            });
            found.sort();
            let begins = |&number: &u32| key.starts_with(&texts[number as usize]);
            prop_assert_eq!(found, (0..texts.len() as u32).filter(begins).collect::<Vec<_>>());
        }
    }
}
