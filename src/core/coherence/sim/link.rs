//! What a process hears, on a connection that may be cut and loses, doubles, spoils and reorders what is on its way.

use super::node::{Item, KEYS, Link, Node};
use super::world::{Event, Fault, Forgery, HEARTBEAT_MS, PATIENCE_MS, TIME_OUT_MS, World};
use crate::core::broken::{Rule, broken};
use crate::core::coherence::hearing::Hearing;
use crate::core::coherence::heed::{self, Span};
use crate::core::coherence::message::{self, Message, Refusal};
use crate::core::coherence::{Move, Origin, Told};
use crate::core::remote::Version;

impl World {
    pub fn connect(&mut self, at: usize) {
        let now = self.now;
        // What is known is not asked for by its counts: they may agree by chance with those of a store that has lost some.
        let told = self.store.told(Default::default(), now);
        let items = [Item::Told(now, told)].into();
        self.nodes[at].link = Link { up: true, items, next_beat: now + HEARTBEAT_MS, ..Link::default() };
    }

    pub fn ask(&mut self, at: usize) {
        let now = self.now;
        let Told { birth, messages, moves, .. } = self.store.clock.counts();
        let link = &mut self.nodes[at].link;
        (link.beat, link.next_beat) = (Some(now), now + HEARTBEAT_MS);
        if !link.cut {
            link.items.push_back(Item::Beat { asked: now, birth, messages, moves });
        }
    }

    /// A connection, and with it perhaps a message, is lost.
    pub fn lose(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.link = Link::default();
        node.trust.lose();
    }

    pub fn hear(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(item) = node.link.items.pop_front() else { return };
        match item {
            Item::Told(asked, told) => {
                node.registers.learn(&told);
                node.link.hearing = Some(Hearing::start(&told));
                node.trust.begin(asked + PATIENCE_MS);
            }
            Item::Beat { asked, birth, messages, moves } => {
                node.link.beat = None;
                let Some(hearing) = &mut node.link.hearing else { return };
                if !hearing.confirm(birth, messages, moves) {
                    return self.lose(at);
                }
                node.registers.learn(&Told { stamp: 0, birth, messages, moves, all: None });
                node.trust.prove(asked + PATIENCE_MS);
            }
            Item::Touched(key) => {
                if broken(Rule::TouchedIsDoubt) {
                    return;
                }
                node.change(key);
                if let Some(kept) = node.entry(key) {
                    kept.span = Span::DOUBT;
                }
            }
            Item::Message(bytes) => self.message(at, &bytes),
        }
    }

    pub fn message(&mut self, at: usize, bytes: &[u8]) {
        let node = &mut self.nodes[at];
        let Message { origin, number, stamp, what } = match Message::from_bytes(bytes) {
            Ok(message) => message,
            Err(Refusal::Foreign) => return,
            Err(Refusal::Malformed) if broken(Rule::MalformedIsLoss) => return,
            Err(Refusal::Malformed) => return self.lose(at),
        };
        match what {
            _ if origin == node.origin => {}
            message::What::Moved { names, how } => node.registers.apply(&Move { names, how, at: stamp }),
            message::What::Changed { key } => {
                let Some(&key) = key.first().filter(|key| usize::from(**key) < KEYS) else { return };
                if !broken(Rule::ChangesDetach) {
                    node.change(key);
                }
                if node.entry(key).is_some_and(|kept| heed::is_over(kept.version, Version(stamp))) {
                    node.put(key, None);
                }
            }
        }
        if node.link.hearing.as_mut().is_some_and(|hearing| !hearing.heard(number)) {
            self.lose(at);
        }
    }

    pub fn spoil(&mut self, at: usize, fault: Fault, which: usize) {
        let link = &mut self.nodes[at].link;
        let is_message = |item: &Item| matches!(item, Item::Message(_));
        let messages: Vec<usize> = (0..link.items.len()).filter(|&at| is_message(&link.items[at])).collect();
        if fault == Fault::Cut {
            link.cut = true;
            return;
        }
        let Some(&at) = messages.get(which % messages.len().max(1)) else { return };
        match fault {
            Fault::Lose => drop(link.items.remove(at)),
            Fault::Double => link.items.push_back(link.items[at].clone()),
            Fault::Swap if at + 1 < link.items.len() => link.items.swap(at, at + 1),
            Fault::Spoil => {
                if let Item::Message(bytes) = &mut link.items[at] {
                    bytes.truncate(3 + which % bytes.len().saturating_sub(3).max(1));
                }
            }
            Fault::Swap | Fault::Cut => {}
        }
    }

    pub fn forge(&mut self, forgery: Forgery, which: usize) {
        let bytes = match forgery {
            Forgery::Foreign => b"SV? hello".to_vec(),
            Forgery::Malformed => b"SVB\x01\x01 hello".to_vec(),
            Forgery::Replay => match self.said.get(which % self.said.len().max(1)) {
                Some(said) => said.clone(),
                None => return,
            },
            Forgery::Invented => {
                let what = message::What::Changed { key: vec![0] };
                let (number, stamp) = (which as u64 % 9, which as u64);
                Message { origin: Origin(0), number, stamp, what }.to_bytes().expect("it is short")
            }
        };
        self.send_all(&Item::Message(bytes));
    }

    /// Everything that has come is heard, and if it is time it is asked whether that is all.
    pub fn tend(&mut self, at: usize) {
        for event in [Event::TimeOut(at), Event::Notice(at), Event::Connect(at), Event::Ask(at)] {
            if self.link_events(at).contains(&event) {
                self.happen(event);
            }
        }
        while self.link_events(at).contains(&Event::Hear(at)) {
            self.hear(at);
        }
    }

    pub fn link_events(&self, at: usize) -> Vec<Event> {
        let (now, Node { link, paused, gone, .. }) = (self.now, &self.nodes[at]);
        let timed_out = link.beat.is_some_and(|asked| now >= asked + TIME_OUT_MS);
        let can = [
            (!link.up && !gone, Event::Connect(at)),
            (!link.items.is_empty(), Event::Hear(at)),
            (link.hearing.is_some() && link.beat.is_none() && now >= link.next_beat, Event::Ask(at)),
            (timed_out, Event::TimeOut(at)),
            (link.up && link.cut && link.items.is_empty(), Event::Notice(at)),
        ];
        can.into_iter().filter(|(can, _)| *can && !*paused).map(|(_, event)| event).collect()
    }
}
