//! What has come in, in lanes: which item is next.

use std::collections::VecDeque;

use super::{Full, JUMPS, Lane};

/// Items with their numbers in the order of arrival.
type Numbered<T> = VecDeque<(u64, T)>;

/// Items that wait.
pub(super) struct Lanes<T> {
    /// At most one for each watch, so they need no room.
    notices: VecDeque<T>,
    /// For each group, normal items and urgent ones.
    groups: Box<[[Numbered<T>; 2]]>,
    arrived: u64,
    /// How many wait, notices included.
    len: usize,
    /// Urgent items taken in a row while a normal one waited.
    jumped: usize,
    /// The lane of the item taken last; none for a notice.
    pub(super) last: Option<Lane>,
}

impl<T> Lanes<T> {
    pub(super) fn new(groups: usize) -> Self {
        let groups = (0..groups).map(|_| [VecDeque::new(), VecDeque::new()]).collect();
        Self { notices: VecDeque::new(), groups, arrived: 0, len: 0, jumped: 0, last: None }
    }

    /// Without a lane it is a notice.
    pub(super) fn push(&mut self, lane: Option<Lane>, item: T) {
        self.len += 1;
        let Some(lane) = lane else { return self.notices.push_back(item) };
        self.arrived += 1;
        let number = self.arrived;
        self.lane(lane).push_back((number, item));
    }

    /// Takes in what came, and gives the next item.
    pub(super) fn refill(
        &mut self,
        came: &mut Vec<(Option<Lane>, T)>,
        full: Full,
    ) -> Option<(Option<Lane>, T)> {
        // One at a time is the usual case: it need not lie in a lane.
        if self.is_empty()
            && let [(lane, _)] = came[..]
            && lane.is_none_or(|lane| !full.has(lane.group))
        {
            (self.last, self.jumped) = (lane, 0);
            return came.pop();
        }
        came.drain(..).for_each(|(lane, item)| self.push(lane, item));
        self.next(full)
    }

    /// The next item that is of none of the groups the taker is full for, and its lane.
    pub(super) fn next(&mut self, full: Full) -> Option<(Option<Lane>, T)> {
        if self.is_empty() {
            return None;
        }
        if let Some(notice) = self.notices.pop_front() {
            self.len -= 1;
            self.last = None;
            return Some((None, notice));
        }
        let (urgent, normal) = (self.first(true, full), self.first(false, full));
        let jumps = urgent.is_some() && (normal.is_none() || self.jumped < JUMPS);
        self.jumped = if jumps && normal.is_some() { self.jumped + 1 } else { 0 };
        let lane = if jumps { urgent } else { normal }?;
        self.last = Some(lane);
        self.len -= 1;
        self.lane(lane).pop_front().map(|(_, item)| (Some(lane), item))
    }

    /// Further items of the lane that was taken from last, as long as they are `alike`, at most `most`.
    pub(super) fn alike(&mut self, most: usize, alike: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(lane) = self.last else { return Vec::new() };
        // Its neighbours are those that came next in any group, so that nothing is overtaken.
        let limit = self.others_first(lane);
        let is_next = |(number, item): &&(u64, T)| limit.is_none_or(|limit| *number < limit) && alike(item);
        let waiting = self.lane(lane);
        let run = waiting.iter().take(most).take_while(is_next).count();
        let taken = waiting.drain(..run).map(|(_, item)| item).collect();
        self.len -= run;
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Everything: the notices, then in the order of arrival.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.len = 0;
        let mut numbered: Vec<_> = self.groups.iter_mut().flatten().flat_map(std::mem::take).collect();
        numbered.sort_unstable_by_key(|(number, _)| *number);
        self.notices.drain(..).chain(numbered.into_iter().map(|(_, item)| item)).collect()
    }

    /// The lane whose first item came before the others', of the groups there is room for.
    fn first(&self, urgent: bool, full: Full) -> Option<Lane> {
        let open = self.groups.iter().enumerate().filter(|(group, _)| !full.has(*group));
        let numbers = open.filter_map(|(group, lanes)| Some((lanes[usize::from(urgent)].front()?.0, group)));
        numbers.min().map(|(_, group)| Lane { group, urgent })
    }

    /// The number of the first item of the same urgency that waits in another group.
    fn others_first(&self, lane: Lane) -> Option<u64> {
        let others = self.groups.iter().enumerate().filter(|(group, _)| *group != lane.group);
        others.filter_map(|(_, lanes)| Some(lanes[usize::from(lane.urgent)].front()?.0)).min()
    }

    fn lane(&mut self, lane: Lane) -> &mut Numbered<T> {
        &mut self.groups[lane.group][usize::from(lane.urgent)]
    }
}
