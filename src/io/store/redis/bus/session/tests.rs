//! The decisions of a session, with a server that answers when it likes, loses messages and forgets: nothing is proven that is not so.

use super::*;
use crate::core::coherence::How;
use crate::core::coherence::cell::Cell;
use parking_lot::Mutex;
use proptest::prelude::*;
use redis::parse_redis_value;

/// Keeps what it hears.
#[derive(Default)]
struct Notes(Mutex<Vec<News>>);

impl Ear for Notes {
    fn hear(&self, news: News) {
        self.0.lock().push(news);
    }
}

const OURS: Origin = Origin(1);
const THEIRS: Origin = Origin(2);
const SECOND: Duration = Duration::from_secs(1);

/// A server, and what is on its way from it.
#[derive(Default)]
struct Server {
    clock: Cell,
    asked: VecDeque<Vec<Vec<u8>>>,
    said: VecDeque<Value>,
    subscribed: bool,
    now: u64,
}

fn bulk(text: impl ToString) -> Value {
    Value::BulkString(text.to_string().into_bytes())
}

impl Server {
    /// Answers the first that was asked.
    fn serve(&mut self) {
        let Some(words) = self.asked.pop_front() else { return };
        self.now += 1;
        let told = |cell: &mut Cell, now| cell.told(Known::default(), now);
        self.said.push_back(match &words[0][..] {
            b"SUBSCRIBE" => {
                self.subscribed = true;
                Value::Push { kind: PushKind::Subscribe, data: vec![bulk("shop%bus0"), Value::Int(1)] }
            }
            b"EVAL" => {
                let told = told(&mut self.clock, self.now);
                let numbers = [told.stamp, told.birth, told.messages, told.moves, told.birth];
                let numbers = numbers.map(|number| Value::Int(number as i64)).to_vec();
                Value::Array([numbers, vec![Value::Array(Vec::new())]].concat())
            }
            b"HMGET" if self.clock == Cell::default() => Value::Array(vec![Value::Nil; 3]),
            b"HMGET" => {
                let told = told(&mut self.clock, self.now);
                Value::Array([told.birth, told.messages, told.moves].map(bulk).to_vec())
            }
            b"CLUSTER" => bulk("cluster_state:ok\r\ncluster_size:2\r\ncluster_current_epoch:6\r\n"),
            _ => Value::Okay,
        });
    }

    /// The number of a message that others are told, if they listen.
    fn publish(&mut self, origin: Origin) -> u64 {
        self.now += 1;
        let stamp = self.clock.next(self.now);
        let number = self.clock.number();
        let what = What::Changed { key: b"shop::k".to_vec() };
        let bytes = Message { origin, number, stamp, what }.to_bytes().unwrap();
        if self.subscribed {
            let data = vec![bulk("shop%bus0"), Value::BulkString(bytes)];
            self.said.push_back(Value::Push { kind: PushKind::Message, data });
        }
        number
    }
}

/// A session, and servers that it hears.
struct World {
    session: Session,
    servers: Vec<Server>,
    notes: Arc<Notes>,
    now: Instant,
    failed: bool,
}

impl World {
    fn new(layout: Layout, servers: usize) -> Self {
        let (notes, now) = (Arc::new(Notes::default()), Instant::now());
        let mut session = Session::new(layout, Vec::new(), 0);
        let ear = Arc::clone(&notes) as Arc<dyn Ear>;
        session.add(Listener { cache: b"shop".to_vec(), origin: OURS, external: false, ear }, now);
        let servers = (0..servers).map(|_| Server { now: 1, ..Server::default() }).collect();
        let mut world = World { session, servers, notes, now, failed: false };
        world.connect();
        world
    }

    fn connect(&mut self) {
        let mut out = Out::default();
        for server in &mut self.servers {
            (server.asked, server.said, server.subscribed) = Default::default();
        }
        self.failed = false;
        self.session.begin(self.servers.len(), (b"*1\r\n$5\r\nHELLO\r\n", 1), self.now, &mut out);
        self.say(out);
        self.tick();
    }

    fn say(&mut self, out: Out) {
        for (line, words) in out.words {
            let mut rest = &words[..];
            while !rest.is_empty() {
                let end = rest[1..].windows(3).position(|bytes| bytes == b"\n*1" || bytes == b"\n*2");
                let (one, after) = rest.split_at(end.map_or(rest.len(), |end| end + 2));
                let Ok(Value::Array(parts)) = parse_redis_value(one) else {
                    panic!("{:?}", String::from_utf8_lossy(one))
                };
                let word = |part| if let Value::BulkString(word) = part { word } else { panic!("{part:?}") };
                self.servers[line].asked.push_back(parts.into_iter().map(word).collect());
                rest = after;
            }
        }
        out.news.into_iter().for_each(|(ear, news)| ear.hear(news));
    }

    fn end(&mut self) {
        let mut out = Out::default();
        self.session.end(None, self.now, &mut out);
        self.failed = true;
        self.say(out);
    }

    /// What a session's keeper does.
    fn tick(&mut self) {
        if self.failed {
            return self.connect();
        }
        if self.session.is_late(self.now) {
            return self.end();
        }
        let mut out = Out::default();
        self.session.join(&|_| Some(0), self.now, &mut out);
        self.session.beat(self.now, &mut out);
        self.say(out);
    }

    /// The next that a server has said arrives.
    fn arrive(&mut self, line: usize) {
        if self.failed {
            return;
        }
        let Some(value) = self.servers[line].said.pop_front() else { return };
        let mut out = Out::default();
        let heard = self.session.hear(line, Came::Said(value), self.now, &mut out);
        self.say(out);
        if heard.is_err() {
            self.end();
        }
        self.tick();
    }

    fn heard(&self) -> Vec<News> {
        std::mem::take(&mut *self.notes.0.lock())
    }

    /// All that is under way is done.
    fn settle(&mut self) {
        for _ in 0..100 {
            for line in 0..self.servers.len() {
                self.servers[line].serve();
                self.arrive(line);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tick();
    }
}

#[test]
fn who_has_joined_is_told_all_and_then_each_second_that_nothing_was_missed() {
    let mut world = World::new(Layout::Single, 1);
    let asked = world.now;
    world.settle();
    let [News::Proven { until, told: Some(told) }] = &world.heard()[..] else { panic!("it has joined") };
    assert_eq!((*until, told.messages), (asked + PATIENCE, 0));
    world.pass(SECOND / 2);
    world.settle();
    assert_eq!(world.heard(), [], "nothing was asked");
    world.pass(SECOND / 2);
    let asked = world.now;
    world.servers[0].publish(THEIRS);
    world.servers[0].publish(OURS);
    world.settle();
    let heard = world.heard();
    assert!(matches!(heard[0], News::Changed { .. }), "{heard:?}");
    assert_eq!(heard[1..], [News::Proven { until: asked + PATIENCE, told: None }]);
}

#[test]
fn without_an_answer_it_is_lost_no_later_than_it_was_promised() {
    let mut world = World::new(Layout::Single, 1);
    world.settle();
    world.pass(SECOND);
    world.settle();
    let Some(News::Proven { until, .. }) = world.heard().pop() else { panic!("it is proven") };
    world.pass(SECOND);
    assert_eq!(world.heard(), []);
    let due = world.session.due().unwrap();
    assert!(due <= until, "it is looked after in time");
    world.now = due;
    world.tick();
    assert_eq!(world.heard(), [News::Lost]);
    world.tick();
    world.settle();
    assert!(matches!(world.heard()[..], [News::Proven { told: Some(_), .. }]));
}

#[test]
fn in_a_cluster_all_servers_have_to_answer() {
    let mut world = World::new(Layout::Cluster, 2);
    for _ in 0..50 {
        world.servers[0].serve();
        world.arrive(0);
    }
    // It has greeted us, and said that the cluster is well.
    for _ in 0..2 {
        world.servers[1].serve();
        world.arrive(1);
    }
    world.servers[0].publish(THEIRS);
    world.arrive(0);
    assert!(matches!(world.heard()[..], [News::Changed { .. }]), "the other has not confirmed");
    world.settle();
    assert!(matches!(world.heard()[..], [News::Proven { told: Some(_), .. }]));
    world.pass(SECOND);
    for _ in 0..50 {
        world.servers[0].serve();
        world.arrive(0);
    }
    assert_eq!(world.heard(), [], "the other may have said something");
    world.settle();
    assert!(matches!(world.heard()[..], [News::Proven { told: None, .. }]));
    world.pass(SECOND);
    world.servers[0].serve();
    world.servers[0].said.clear();
    world.servers[0].said.push_back(bulk("cluster_state:ok\r\ncluster_size:2\r\ncluster_current_epoch:7\r\n"));
    world.arrive(0);
    assert_eq!(world.heard()[..], [News::Lost], "somebody has taken over");
}

#[test]
fn who_may_not_listen_is_left_alone_for_a_while_and_others_go_on() {
    let mut world = World::new(Layout::Single, 1);
    world.settle();
    world.heard();
    let mut out = Out::default();
    let notes = Arc::new(Notes::default());
    let ear = Arc::clone(&notes) as Arc<dyn Ear>;
    world.session.add(Listener { cache: b"other".to_vec(), origin: OURS, external: false, ear }, world.now);
    world.session.join(&|_| Some(0), world.now, &mut out);
    assert_eq!(out.words.len(), 1);
    let denied = parse_redis_value(b"-NOPERM no permissions to access a channel\r\n").unwrap();
    world.session.hear(0, Came::Said(denied), world.now, &mut out).unwrap();
    assert_eq!((world.session.unheard, world.session.lost), (1, 0));
    let mut again = Out::default();
    world.session.join(&|_| Some(0), world.now + REFUSED - SECOND, &mut again);
    assert!(again.words.is_empty());
    world.session.join(&|_| Some(0), world.now + REFUSED, &mut again);
    assert_eq!(again.words.len(), 1);
    assert!(notes.0.lock().is_empty() && world.heard().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Serve,
    Arrive,
    Publish(bool),
    Move,
    /// What the server has said last is lost, which no server does.
    Drop,
    /// The connection is cut.
    Cut,
    /// All of the server's data is gone.
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..600_u64).prop_map(Step::Pass),
        20 => Just(Step::Serve),
        20 => Just(Step::Arrive),
        8 => any::<bool>().prop_map(Step::Publish),
        1 => Just(Step::Move),
        1 => Just(Step::Drop),
        1 => Just(Step::Cut),
        1 => Just(Step::Flush),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever was published before the moment up to which nothing was missed has been heard, or was before the clock told all.
    #[test]
    fn what_is_proven_is_so(steps in steps()) {
        let mut world = World::new(Layout::Single, 1);
        // Messages of others: their clock's birth, their number, when they were published, and whether they were heard.
        let mut published: Vec<(u64, u64, Instant, bool)> = Vec::new();
        let (mut since, mut flushed) = ((0, 0), Vec::new());
        let mut numbers = Vec::new();
        for step in steps {
            match step {
                Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
                Step::Serve => world.servers[0].serve(),
                Step::Arrive => world.arrive(0),
                Step::Publish(ours) => {
                    let number = world.servers[0].publish(if ours { OURS } else { THEIRS });
                    let birth = world.servers[0].clock.clone().told(Known::default(), 0);
                    numbers.push((birth.stamp - 1, published.len()));
                    published.push((birth.birth, number, world.now, ours));
                }
                // A message that nobody is given.
                Step::Move => {
                    let server = &mut world.servers[0];
                    server.now += 1;
                    let at = server.clock.moved(&[], How::Gone, server.now);
                    let number = server.clock.number();
                    let birth = server.clock.clone().told(Known::default(), 0).birth;
                    numbers.push((at, published.len()));
                    published.push((birth, number, world.now, false));
                }
                Step::Drop => {
                    let said = &mut world.servers[0].said;
                    if matches!(said.back(), Some(Value::Push { kind: PushKind::Message, .. })) {
                        said.pop_back();
                    }
                }
                Step::Cut if !world.failed => world.end(),
                Step::Cut => {}
                Step::Flush => {
                    world.servers[0].now += 1;
                    let lost = std::mem::take(&mut world.servers[0].clock);
                    if lost != Cell::default() {
                        flushed.push((lost.clone().told(Known::default(), 0).birth, world.now));
                    }
                }
            }
            for news in world.heard() {
                match news {
                    News::Changed { version, .. } => {
                        let found = numbers.iter().find(|(stamp, _)| *stamp == version.0);
                        prop_assert!(found.is_some(), "{version:?} was never published");
                        published[found.unwrap().1].3 = true;
                    }
                    News::Proven { until, told } => {
                        prop_assert!(until <= world.now + PATIENCE);
                        let asked = until - PATIENCE;
                        if let Some(told) = &told {
                            since = (told.birth, told.messages);
                        }
                        prop_assert!(flushed.iter().all(|(birth, at)| *birth != since.0 || *at >= asked), "all was gone");
                        for (birth, number, at, heard) in &published {
                            let owed = *birth == since.0 && *number > since.1 && *at < asked;
                            prop_assert!(*heard || !owed, "{number} was missed");
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
