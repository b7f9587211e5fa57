//! What happens in a round: a list of operations and faults, generated from a seed and nothing else.
//!
//! Invariant: the same seed makes the same list. Whatever part of a list is left out, the rest can still be
//! carried out; a change that does not apply then changes nothing.

use std::time::Duration;

use e2e::proxy::{Point, Side};
use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

/// Ids that posts of a round can have.
pub const IDS: usize = 6;
/// Each sells and buys.
pub const MEMBERS: usize = 5;

#[derive(Clone, Debug)]
pub struct Step {
    pub number: usize,
    /// After the step before it was begun.
    pub pause: Duration,
    pub operation: Operation,
}

#[derive(Clone, Debug)]
pub enum Operation {
    /// Changes of the table in one transaction; one alone may also be made by the seller, over REST.
    Table {
        changes: Vec<Change>,
        by_seller: bool,
    },
    Chat {
        member: usize,
        instance: Instance,
        request: Request,
        /// Asks again until there is an answer.
        patient: bool,
    },
    /// The member's app connects its event stream, or loses it.
    Stream {
        member: usize,
        connected: Option<Instance>,
    },
    Fault(Fault),
}

/// Processes of chat-service. The second one comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    First,
    Second,
}

impl Instance {
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Members and ids are numbers within the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Insert {
        id: usize,
        seller: usize,
    },
    Update {
        id: usize,
        title: bool,
        status: usize,
    },
    Delete {
        id: usize,
    },
    /// The row gets another id.
    Rename {
        from: usize,
        to: usize,
    },
    Truncate,
}

#[derive(Clone, Copy, Debug)]
pub enum Request {
    OpenRoom {
        id: usize,
    },
    /// Into one of the rooms that the member knows; `twice` at the same time, as one message.
    Send {
        room: usize,
        twice: bool,
    },
    Read {
        room: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// kill -9, and a start after this time.
    Kill {
        instance: Instance,
        down: Duration,
    },
    /// The same, or only the loss of a connection, at a point between two steps of the process.
    Stop {
        instance: Instance,
        point: Point,
        kill: bool,
        down: Duration,
    },
    /// SIGTERM, and a start.
    Restart(Instance),
    /// SIGSTOP.
    Freeze {
        instance: Instance,
        time: Duration,
    },
    CutMongo {
        instance: Instance,
        time: Duration,
    },
    SlowMongo {
        instance: Instance,
        delay: Duration,
        time: Duration,
    },
    CutRegistry {
        instance: Instance,
        time: Duration,
    },
    Join,
    /// By SIGTERM or by kill -9.
    Leave {
        killed: bool,
    },
    /// Records of the topic come again: so many of each partition, beginning so far before its end.
    Duplicate {
        back: usize,
        count: usize,
    },
    /// All is read again from so far before what was committed; without a number, from the beginning.
    Rewind {
        back: Option<i64>,
    },
    /// The erasers' leases run out, also while they are at work.
    EndLeases,
}

/// What is in the table before the first step.
pub fn first_posts() -> Vec<Change> {
    let posts = (0..IDS / 2).zip(0..MEMBERS);
    posts.map(|(id, seller)| Change::Insert { id, seller }).collect()
}

/// The list of the seed.
pub fn generate(seed: u64) -> Vec<Step> {
    let mut generator = Generator {
        random: StdRng::seed_from_u64(seed),
        table: [None; IDS],
    };
    for change in first_posts() {
        if let Change::Insert { id, seller } = change {
            generator.table[id] = Some(seller);
        }
    }
    let length = generator.random.random_range(60..=120);
    (0..length).map(|number| generator.step(number)).collect()
}

struct Generator {
    random: StdRng,
    /// The seller of each id's row.
    table: [Option<usize>; IDS],
}

impl Generator {
    fn step(&mut self, number: usize) -> Step {
        let pause = match self.random.random_range(0..10) {
            0 => self.millis(100..400),
            1..4 => Duration::ZERO,
            _ => self.millis(1..60),
        };
        let member = self.random.random_range(0..MEMBERS);
        let room = self.random.random_range(0..1000);
        let operation = match self.random.random_range(0..100) {
            0..20 => self.table(),
            20..46 => self.open(),
            46..74 => {
                let twice = self.random.random_bool(0.15);
                self.chat(member, Request::Send { room, twice })
            }
            74..80 => self.chat(member, Request::Read { room }),
            80..88 => Operation::Stream {
                member,
                connected: self.random.random_bool(0.6).then(|| self.instance()),
            },
            _ => Operation::Fault(self.fault()),
        };
        Step {
            number,
            pause,
            operation,
        }
    }

    fn table(&mut self) -> Operation {
        let count = *[1, 1, 1, 1, 2, 2, 3].choose(&mut self.random).unwrap_or(&1);
        Operation::Table {
            changes: (0..count).filter_map(|_| self.change()).collect(),
            by_seller: self.random.random(),
        }
    }

    /// A change that applies to the table as it is.
    fn change(&mut self) -> Option<Change> {
        let ids = self.ids();
        let taken = ids.iter().copied().find(|id| self.table[*id].is_some());
        let free = ids.iter().copied().find(|id| self.table[*id].is_none());
        match (self.random.random_range(0..100), taken, free) {
            (0..3, ..) => {
                self.table = [None; IDS];
                Some(Change::Truncate)
            }
            (28..54, Some(id), _) => Some(Change::Update {
                id,
                title: self.random.random(),
                status: self.random.random_range(0..3),
            }),
            (54..70, Some(from), Some(to)) => {
                self.table.swap(from, to);
                Some(Change::Rename { from, to })
            }
            (3..28, _, Some(id)) | (_, None, Some(id)) => Some(self.insert(id)),
            (_, Some(id), _) => {
                self.table[id] = None;
                Some(Change::Delete { id })
            }
            (_, None, None) => None,
        }
    }

    fn insert(&mut self, id: usize) -> Change {
        let seller = self.random.random_range(0..MEMBERS);
        self.table[id] = Some(seller);
        Change::Insert { id, seller }
    }

    fn ids(&mut self) -> [usize; IDS] {
        let mut ids = std::array::from_fn(|id| id);
        ids.shuffle(&mut self.random);
        ids
    }

    /// Mostly about a post that is there and somebody else's.
    fn open(&mut self) -> Operation {
        let ids = self.ids();
        let taken = self.random.random_bool(0.9);
        let id = ids.iter().find(|id| self.table[**id].is_some() == taken);
        let id = *id.unwrap_or(&ids[0]);
        let mut buyer = self.random.random_range(0..MEMBERS);
        if self.table[id] == Some(buyer) && self.random.random_bool(0.9) {
            buyer = (buyer + 1) % MEMBERS;
        }
        self.chat(buyer, Request::OpenRoom { id })
    }

    fn chat(&mut self, member: usize, request: Request) -> Operation {
        Operation::Chat {
            member,
            instance: self.instance(),
            request,
            patient: self.random.random_bool(0.7),
        }
    }

    fn fault(&mut self) -> Fault {
        let instance = self.instance();
        match self.random.random_range(0..100) {
            0..10 => Fault::Kill {
                instance,
                down: self.millis(0..800),
            },
            10..50 => Fault::Stop {
                instance,
                point: self.point(),
                kill: self.random.random_bool(0.6),
                down: self.millis(0..300),
            },
            50..54 => Fault::Restart(instance),
            54..58 => Fault::Freeze {
                instance,
                time: self.millis(100..1000),
            },
            58..66 => Fault::CutMongo {
                instance,
                time: self.millis(50..1500),
            },
            66..70 => Fault::SlowMongo {
                instance,
                delay: self.millis(5..60),
                time: self.millis(200..1500),
            },
            70..73 => Fault::CutRegistry {
                instance,
                time: self.millis(100..2000),
            },
            73..80 => Fault::Join,
            80..84 => Fault::Leave {
                killed: self.random.random_bool(0.2),
            },
            84..92 => Fault::Duplicate {
                back: self.random.random_range(1..40),
                count: self.random.random_range(1..40),
            },
            92..97 => Fault::Rewind {
                back: self
                    .random
                    .random_bool(0.7)
                    .then(|| self.random.random_range(1..40)),
            },
            _ => Fault::EndLeases,
        }
    }

    fn point(&mut self) -> Point {
        let side = if self.random.random() {
            Side::Before
        } else {
            Side::After
        };
        let named = [
            "commitTransaction",
            "commitTransaction",
            "bulkWrite",
            "bulkWrite",
            "delete",
            "update",
            "findAndModify",
            "insert",
            "find",
        ];
        if self.random.random_bool(0.6) {
            Point {
                command: named.choose(&mut self.random).copied(),
                nth: self.random.random_range(1..=5),
                side,
            }
        } else {
            Point {
                command: None,
                nth: self.random.random_range(1..=60),
                side,
            }
        }
    }

    fn instance(&mut self) -> Instance {
        if self.random.random_bool(0.7) {
            Instance::First
        } else {
            Instance::Second
        }
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }
}
