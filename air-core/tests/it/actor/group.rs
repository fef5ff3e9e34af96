//! Groups: work streamed over them, ranks that come and go.

use super::*;

fn group(runtime: &Runtime, size: usize, capacity: usize) -> air_core::Group<Probe> {
    let spec = GroupSpec::new("ranks", size)
        .supervisor(|spec| spec.strategy(Strategy::OneForOne).backoff(Backoff::NONE))
        .worker(|spec| spec.capacity(capacity));
    runtime.group(spec, |_| Ok(Probe { count: 0, stopped: None })).unwrap()
}

/// Answers its own number once it may, and fails its worker the first times.
#[derive(Clone)]
struct Square {
    n: u64,
    may: Option<Arc<std::sync::Barrier>>,
    panics: Arc<AtomicUsize>,
}
impl Message for Square {
    type Reply = u64;
}
impl Handle<Square> for Probe {
    fn handle(&mut self, Square { n, may, panics }: Square, _: &mut Cx<Self>) -> Result<u64, BoxError> {
        if let Some(may) = may {
            may.wait();
        }
        let again = panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(again.is_err(), "not yet");
        Ok(n * n)
    }
}

fn square(n: u64) -> Square {
    Square { n, may: None, panics: Arc::default() }
}

#[test]
fn answers_come_in_order_and_few_items_are_out() {
    let runtime = Runtime::start().unwrap();
    let group = group(&runtime, 3, 1);
    let drawn = std::cell::Cell::new(0);
    let items = (0..200).inspect(|_| drawn.set(drawn.get() + 1));
    let mut taken = 0;
    for answer in group.map(items, square).in_flight(5) {
        assert_eq!(answer.unwrap(), taken * taken);
        taken += 1;
        assert!(drawn.get() <= taken + 5, "{} drawn, {taken} taken", drawn.get());
    }
    assert_eq!((taken, drawn.get()), (200, 200));
    assert_eq!(group.map(Vec::new(), square).count(), 0);
}

#[test]
fn as_completed_does_not_wait_for_the_slow() {
    let runtime = Runtime::start().unwrap();
    let group = group(&runtime, 2, 8);
    let may = Arc::new(std::sync::Barrier::new(2));
    let slow = Arc::clone(&may);
    let mut answers = group
        .map(0..9, move |n| Square { may: (n == 0).then(|| Arc::clone(&slow)), ..square(n) })
        .in_flight(2)
        .as_completed();
    // The first holds one rank, so the others go through the other one.
    let others: Vec<_> = answers.by_ref().take(8).map(|(item, answer)| (item, answer.unwrap())).collect();
    assert!(others.into_iter().eq((1..9).map(|n| (n, (n * n) as u64))));
    may.wait();
    assert!(matches!(answers.next(), Some((0, Ok(0)))));
    assert!(answers.next().is_none());
}

#[test]
fn what_a_lost_rank_did_not_handle_goes_to_another_on_request() {
    let runtime = Runtime::start().unwrap();
    for retry in [false, true] {
        let group = group(&runtime, 2, 8);
        let release = hold(group.rank(0).unwrap());
        let mut answers = group.map(0..8, square).in_flight(8);
        if retry {
            answers = answers.retry_lost();
        }
        let mut answers = answers.as_completed();
        // When the first answer is there all are out, half of them at the rank that is held.
        let mut results = vec![answers.next().unwrap().1];
        assert_eq!(group.rank(0).unwrap().queued(), 4);
        group.rank(0).unwrap().kill();
        results.extend(answers.map(|(_, result)| result));
        release.send(()).unwrap();
        let lost =
            results.iter().filter(|result| matches!(result, Err(AskError::Undelivered { .. }))).count();
        let answered = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!((answered, lost), if retry { (8, 0) } else { (4, 4) });
        group.stop();
    }
}

#[test]
fn when_all_ranks_are_lost_the_messages_come_back() {
    let runtime = Runtime::start().unwrap();
    let group = group(&runtime, 2, 8);
    group.ranks().iter().for_each(Mailbox::kill);
    let lost = group.map(0..4, square).retry_lost();
    let numbers: Vec<_> = lost.map(|answer| answer.unwrap_err().into_message().unwrap().n).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn what_died_is_asked_again_only_where_it_may_be_handled_twice() {
    let runtime = Runtime::start().unwrap();
    let group = group(&runtime, 1, 8);
    let ask = |panics: usize, retries: usize| {
        let panics = Arc::new(AtomicUsize::new(panics));
        let mut answers =
            group.map([7], move |n| Square { panics: Arc::clone(&panics), ..square(n) }).retry_died(retries);
        answers.next().unwrap()
    };
    assert!(matches!(ask(1, 0), Err(AskError::Died(Exit::Panicked(_)))));
    assert_eq!(ask(2, 2).unwrap(), 49);
    assert!(matches!(ask(3, 2), Err(AskError::Died(Exit::Panicked(_)))), "not for ever");
    assert_eq!(group.rank(0).unwrap().ask_blocking(Add(1)).unwrap(), 1);
    assert_eq!(group.rank(0).unwrap().restarts(), 6);
}

#[test]
fn dropping_a_map_withdraws_what_waits() {
    let runtime = Runtime::start().unwrap();
    let group = group(&runtime, 1, 8);
    let release = hold(group.rank(0).unwrap());
    let mut answers = group.map(0..8, |n| Add(1 + n)).in_flight(8).as_completed();
    let puller = std::thread::scope(|scope| {
        let first = scope.spawn(|| answers.next().unwrap().1.unwrap());
        until(|| group.rank(0).unwrap().queued() == 8);
        release.send(()).unwrap();
        first.join().unwrap()
    });
    assert_eq!(puller, 1);
    drop(answers);
    // What was not withdrawn in time was handled, and counted.
    let count = group.rank(0).unwrap().ask_blocking(Add(0)).unwrap();
    assert!((1..=36).contains(&count));
    assert_eq!(group.rank(0).unwrap().queued(), 0);
}

#[test]
fn ranks_come_and_go_and_keep_their_numbers() {
    let runtime = Runtime::start().unwrap();
    let (seen, lives) = mpsc::channel();
    let spec = GroupSpec::new("ranks", 2)
        .supervisor(|spec| spec.strategy(Strategy::OneForOne).backoff(Backoff::NONE));
    let mut group = runtime
        .group(spec, move |place| {
            seen.send((place.rank, place.world))?;
            Ok(Probe { count: 0, stopped: None })
        })
        .unwrap();
    let begun = |n: usize| {
        let mut lives: Vec<_> = (0..n).map(|_| lives.recv().unwrap()).collect();
        lives.sort_unstable();
        lives
    };
    assert_eq!(begun(2), [(0, 2), (1, 2)]);
    assert!(group.resize(4).unwrap().is_empty());
    assert_eq!(begun(2), [(2, 4), (3, 4)]);
    assert_eq!(group.size(), 4);
    assert_eq!(&**group.rank(3).unwrap().name(), "ranks/3");
    // One that fails comes back under its number, into the group as it is now.
    group.rank(1).unwrap().ask_blocking(boom("again")).unwrap_err();
    assert_eq!(begun(1), [(1, 4)]);
    let waiting = group.rank(3).unwrap().send_blocking(Add(5));
    let leaving = group.resize(1).unwrap();
    assert_eq!(leaving.len(), 3);
    assert_eq!(waiting.wait().unwrap(), 5, "those that leave handle what waits");
    assert!(leaving.iter().all(|rank| matches!(rank.wait_ended_blocking(), Exit::Normal)));
    assert_eq!(group.rank(0).unwrap().ask_blocking(Add(1)).unwrap(), 1);
    group.resize(2).unwrap();
    assert_eq!(begun(1), [(1, 2)]);
    assert_eq!(
        group.round_robin().ask_blocking(Add(1)).unwrap() + group.round_robin().ask_blocking(Add(1)).unwrap(),
        3
    );
    assert!(group.resize(0).is_err());
}
