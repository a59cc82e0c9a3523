//! Sessions that come, go and come back.

use futures::FutureExt;

use super::*;

const GRACE: Duration = Duration::from_secs(600);
const ID: SessionId = [7; 16];
const MOVED: Moved = Moved {
    sent: 1,
    received: 10,
};

fn about(user: &str, node: u8) -> About {
    About {
        user: user.to_owned(),
        user_id: 7,
        node: NodeId([node; 16]),
        hostname: "gateway-1".to_owned(),
        login: "root".to_owned(),
    }
}

/// One that the agent knows.
fn begun(mut guard: Guard) -> Guard {
    guard.begin();
    guard
}

#[tokio::test]
async fn ending_a_user_ends_their_sessions_and_no_others() {
    let sessions = Sessions::default();
    let ann = begun(sessions.enter(about("ann", 1)));
    let bob = begun(sessions.enter(about("bob", 1)));
    let kept = begun(sessions.attach(ID, about("ann", 2), GRACE));
    assert_eq!(
        sessions.end_where(|_, about| about.user == "ann"),
        [(NodeId([2; 16]), ID)]
    );
    ann.ended().await;
    kept.ended().await;
    assert!(bob.ended().now_or_never().is_none());
    drop(ann);
    assert_eq!(sessions.len(), 2);
    assert!(
        sessions
            .end_where(|_, about| about.node == NodeId([1; 16]))
            .is_empty()
    );
    bob.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_outlives_its_links_is_one() {
    let sessions = Sessions::default();
    let moved = MOVED;
    let first = begun(sessions.attach(ID, about("ann", 1), GRACE));
    let second = begun(sessions.attach(ID, about("ann", 1), GRACE));
    assert_eq!(sessions.len(), 1);
    assert!(matches!(first.leave(moved).await, Left::Replaced));
    assert_eq!(
        sessions.list()[0].detached,
        None,
        "the newer one carries it"
    );
    assert!(matches!(second.leave(moved).await, Left::Detached));
    assert!(sessions.list()[0].detached.is_some());
    let third = begun(sessions.attach(ID, about("ann", 1), GRACE));
    assert_eq!(sessions.list()[0].detached, None);
    assert!(
        sessions.over(ID, NodeId([2; 16])).is_empty(),
        "not its node"
    );
    assert!(
        sessions.over(ID, NodeId([1; 16])).is_empty(),
        "still carried"
    );
    let Left::Over(listed) = third.leave(moved).await else {
        panic!("not over");
    };
    assert_eq!(
        listed.moved,
        Moved {
            sent: 3,
            received: 30
        }
    );
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_detachment_is_said_once_by_who_leaves_or_by_who_takes_over() {
    let sessions = Sessions::default();
    let attach = || sessions.attach(ID, about("ann", 1), GRACE);
    let (mut first, mut second, mut third) = (attach(), attach(), attach());
    assert!(!first.begin(), "nobody was there");
    assert!(second.begin(), "the first one still is");
    assert!(!second.begin(), "once");
    assert!(matches!(first.leave(MOVED).await, Left::Replaced));
    // It waits for the agent's word while the next one comes.
    let mut leaving = Box::pin(second.leave(MOVED));
    assert!(leaving.as_mut().now_or_never().is_none());
    assert!(third.begin(), "and does not say so any more");
    assert!(matches!(leaving.await, Left::Replaced));
    let mut fourth = attach();
    assert!(fourth.begin());
    assert!(matches!(third.leave(MOVED).await, Left::Replaced));
    assert!(matches!(fourth.leave(MOVED).await, Left::Detached));
    assert!(!attach().begin(), "nobody was attached");
}

#[tokio::test(start_paused = true)]
async fn the_agents_word_ends_what_nobody_is_attached_to() {
    let sessions = Sessions::default();
    let guard = begun(sessions.attach(ID, about("ann", 1), GRACE));
    drop(guard);
    let listed = &sessions.over(ID, NodeId([1; 16]))[0];
    assert_eq!((listed.id, listed.about.user.as_str()), (ID, "ann"));
    assert!(sessions.over(ID, NodeId([1; 16])).is_empty(), "once");
    let plain = begun(sessions.enter(about("ann", 1)));
    assert!(matches!(plain.leave(Moved::default()).await, Left::Over(_)));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_within_the_grace_time_is_given_up() {
    let sessions = Sessions::default();
    let guard = begun(sessions.attach(ID, about("ann", 1), GRACE));
    assert!(sessions.give_up().is_empty(), "it is carried");
    drop(guard);
    tokio::time::advance(GRACE).await;
    assert!(sessions.give_up().is_empty(), "the agent may still say so");
    tokio::time::advance(AFTER_GRACE * 2).await;
    assert_eq!(sessions.give_up()[0].id, ID);
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_never_began_leaves_no_trace_however_many_try() {
    let sessions = Sessions::default();
    let tries = [1, 2].map(|_| sessions.attach(ID, about("ann", 1), GRACE));
    assert_eq!((sessions.len(), sessions.carried()), (0, 2));
    assert!(sessions.over(ID, NodeId([1; 16])).is_empty(), "never was");
    drop(tries);
    assert_eq!((sessions.len(), sessions.carried()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_in_vain_changes_nothing() {
    let sessions = Sessions::default();
    drop(begun(sessions.attach(ID, about("ann", 1), GRACE)));
    let since = sessions.list()[0].detached;
    let passed = GRACE - Duration::from_secs(1);
    tokio::time::advance(passed).await;
    let again = sessions.attach(ID, about("ann", 1), GRACE);
    let kept = |sessions: &Sessions| {
        let listed = &sessions.list()[0];
        assert_eq!(
            (listed.detached, listed.left),
            (since, Some(GRACE - passed))
        );
    };
    kept(&sessions);
    drop(again);
    kept(&sessions);
    let again = sessions.attach(ID, about("ann", 1), GRACE);
    assert_eq!(sessions.over(ID, NodeId([1; 16])).len(), 1, "meanwhile");
    drop(again);
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_has_very_many_detached_sessions_loses_their_own() {
    let sessions = Sessions::default();
    let id = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id
    };
    drop(begun(sessions.attach(ID, about("ann", 1), GRACE)));
    for number in 0..2 * MAX_DETACHED_OF_ONE {
        tokio::time::advance(Duration::from_millis(1)).await;
        drop(begun(sessions.attach(id(number), about("eve", 1), GRACE)));
    }
    let listed = sessions.list();
    assert_eq!(listed.len(), 1 + MAX_DETACHED_OF_ONE);
    assert!(listed.iter().any(|listed| listed.about.user == "ann"));
    assert!(listed.iter().all(|listed| listed.id != id(0)), "the oldest");
}

#[tokio::test(start_paused = true)]
async fn a_detached_session_is_so_even_if_its_client_is_back_at_once() {
    let sessions = Sessions::default();
    let first = begun(sessions.attach(ID, about("ann", 1), GRACE));
    let leaving = tokio::spawn(first.leave(MOVED));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let second = sessions.attach(ID, about("ann", 1), GRACE);
    assert!(matches!(leaving.await.unwrap(), Left::Detached));
    assert_eq!(start.elapsed(), Duration::ZERO, "told before the return");
    let _second = begun(second);
    assert_eq!(sessions.list()[0].detached, None);
}

#[tokio::test(start_paused = true)]
async fn who_knows_anothers_id_does_not_get_in_the_way() {
    let sessions = Sessions::default();
    let eve = sessions.attach(ID, about("eve", 1), GRACE);
    let ann = begun(sessions.attach(ID, about("ann", 1), GRACE));
    drop(eve);
    assert_eq!(sessions.len(), 1);
    let _eve = begun(sessions.attach(ID, about("eve", 2), GRACE));
    assert!(
        sessions.over(ID, NodeId([1; 16])).is_empty(),
        "still carried"
    );
    assert!(matches!(ann.leave(MOVED).await, Left::Over(_)));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_detaches_what_outlives_it() {
    let sessions = Sessions::default();
    let kept = begun(sessions.attach(ID, about("ann", 1), GRACE));
    let plain = begun(sessions.enter(about("ann", 1)));
    assert!(kept.leaving().now_or_never().is_none());
    sessions.leave_all();
    kept.leaving().await;
    assert_eq!(sessions.carried(), 2);
    let asked = kept.leave(MOVED).now_or_never();
    assert!(matches!(asked, Some(Left::Detached)), "without waiting");
    assert_eq!(sessions.carried(), 1);
    drop(plain);
    assert_eq!(sessions.carried(), 0);
}

#[tokio::test]
async fn a_session_that_is_kept_here_ends_with_its_stream() {
    let sessions = Sessions::default();
    let guard = begun(sessions.hold(ID, about("ann", 1), GRACE));
    guard.set_lost(true);
    assert!(sessions.list()[0].detached.is_some());
    assert!(sessions.give_up().is_empty());
    let told = sessions.end_where(|_, _| true);
    assert_eq!(told, [(NodeId([1; 16]), ID)], "its agent keeps it as well");
    assert!(matches!(guard.leave(MOVED).await, Left::Over(_)));
}

#[tokio::test]
async fn what_an_agent_could_not_be_told_stays_until_it_is() {
    let sessions = Sessions::default();
    let node = NodeId([1; 16]);
    let held = || begun(sessions.hold(ID, about("ann", 1), GRACE));
    assert!(matches!(held().abandon(MOVED).await, Left::Detached));
    assert_eq!(sessions.to_end(node), [ID]);
    assert_eq!(sessions.list()[0].grace, Some(GRACE));
    assert!(held().ended().now_or_never().is_some(), "nobody is let in");
    assert_eq!(sessions.over(ID, node).len(), 1);
    assert!(sessions.is_empty());
    assert!(matches!(held().leave(MOVED).await, Left::Over(_)));
    assert!(sessions.to_end(node).is_empty(), "that one was told");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_does_not_wait_for_clients_that_are_gone() {
    let sessions = Sessions::default();
    let mut gone = sessions.attach(ID, about("ann", 1), GRACE);
    gone.begin();
    let mut last = sessions.attach(ID, about("ann", 1), GRACE);
    last.begin();
    assert!(gone.is_over().now_or_never().is_none());
    assert!(
        sessions.over(ID, NodeId([1; 16])).is_empty(),
        "it is carried"
    );
    let start = Instant::now();
    tokio::join!(gone.is_over(), last.is_over());
    assert_eq!(start.elapsed(), LAST_BYTES, "for the last bytes");
    assert!(matches!(gone.leave(MOVED).await, Left::Replaced));
    assert!(matches!(last.leave(MOVED).await, Left::Over(_)));
    assert!(sessions.is_empty());
}
