//! Rules that a test breaks on purpose, one at a time, to see that the simulator finds it out.
//!
//! Outside of tests nothing can be broken: the question is a constant, and leaves no trace in what is compiled.

/// The rules of loading, by what holds as long as nobody breaks them. `flight::sim` tells by what each is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A detached flight stores nothing.
    DetachedStoresNothing,
    /// A write and an invalidation detach the flight.
    WritesDetach,
    /// Nobody joins a load for a group that was cleared.
    ClearedIsNotJoined,
    /// Whoever wants a new value joins no older load.
    AnewIsNew,
    /// Whoever finds a load joins it.
    OneLease,
    /// A stale value that is being loaded is not loaded again.
    OneRefresh,
    /// Nor is one that is refreshed early.
    OneEarlyRefresh,
    /// A later attempt makes the earlier lease void.
    LaterAttemptsCount,
    /// Flights that are over stay so, though their slots are used again.
    SerialsDiffer,
    /// A load ends with its last waiter.
    LastWaiterEndsLoad,
    /// A leader who leaves leaves the load to the others.
    LoadsAreShared,
    /// A bound load ends with its caller.
    BoundLoadsEnd,
    /// A load that is taken over lives as its new leader's.
    LivesAreTakenOver,
    /// Who was to lead and leaves passes the lead on.
    LeadIsPassedOn,
    /// Waiters elsewhere take a load over that was ended from outside.
    AbortedIsHandedOver,
    /// Those at home hear that it was.
    AbortedIsTold,
    /// A load that is handed over is at home with whoever is to run it.
    HomeMoves,
    /// Everybody is told the outcome.
    AllAreWoken,
    /// Those who wait for a load on a loop that stopped look again.
    SupersededLookAgain,
    /// Who waits for a load elsewhere looks after it.
    WaitersLookAfterLoads,
    /// Nobody waits for a load that needs the thread it blocks.
    BlockedIsSeen,
    /// Who waits for a load is known to need the thread of whoever has it.
    WaitsMove,
    /// A load whose waiter got the old value goes on.
    RelievedLoadsGoOn,
    /// A load is stopped when its time is over.
    TimeOutStops,
    /// And not before.
    TimeOutWaits,
    /// A thread that takes too long goes on, and what it brings counts.
    ThreadsGoOn,
    /// Each load has its own time.
    LeadersHaveTheirTime,
    /// Patience ends with the old value it was for.
    PatienceIsResigned,
    /// Old values that were cleared answer nobody.
    ClearedIsNotOld,
    /// A weak pointer means one entry only.
    StampsDiffer,
    /// Old values are of use until their end.
    OldHasAnEnd,
    /// A stale value is served in its time.
    StaleHasAnEnd,
    /// Plain hits end with the use of their value.
    PlainHasAnEnd,
    /// And with the next look whether somebody refreshes it.
    PlainIsLookedAt,
    /// A table serves nothing past its deadline.
    DeadlinesHold,
    /// A table serves nothing that was cleared.
    ClearedIsGone,
    /// A failed load makes nothing fresh.
    FailureFreshensNothing,
    /// After a failure nobody tries again before it is time.
    RetriesWait,
    /// After a failure it is noted when that is.
    FailureIsNoted,
    /// A last resort answers after a failure only.
    LastResortIsLast,
    /// A load that fails leaves an old value in use.
    FailureRelents,
    /// Or takes it along, where it is to.
    FailureForgets,
    /// What says that there is nothing is looked at as such.
    NegativeIsTold,
    /// And is no plain hit.
    NegativeIsNotPlain,
    /// Jitter only shortens.
    JitterShortens,
    /// No refresh begins too soon after the last.
    RefreshesAreSpaced,
    /// A value that is not kept takes the old one's place.
    UnkeptReplaces,
    /// A loaded value takes the old one's place.
    LoadedReplaces,
    /// What is fresh is served.
    FreshIsServed,
    /// Who finds a stale value has it loaded anew.
    StaleIsLoaded,
    /// Where nothing may run behind, who finds it loads it.
    StaleIsLoadedInPerson,
    /// Loads that are taken over are counted.
    TakeoversCount,
    /// Where there is no room behind, nothing is started there.
    LaterIsNotNow,
    /// A store takes a loaded value only while the claim is there that it was loaded under.
    FillsAreConditional,
    /// Nor does it take one where there is nothing.
    AbsenceIsNoClaim,
    /// No claim is taken for an earlier one.
    TokensDiffer,
    /// Who comes second takes what was first.
    WinnersAreTaken,
    /// What is written by hand is written to the store first.
    StoreFirst,
    /// A write of which nobody knows what became is an invalidation.
    UnknownInvalidates,
    /// A value that something newer has followed does not come into memory late.
    OvertakenIsDropped,
    /// What a tier behind answers comes into memory only if nothing has changed meanwhile.
    PromotionsAreConditional,
    /// Where one load is to be enough for all processes, the others wait for it.
    ClaimsAreAwaited,
    /// Nobody waits for a permit that only its own end can free.
    PermitsAreSeen,
    /// What was not heard of makes an entry suspect.
    UnheardIsSuspect,
    /// The tags of an entry are compared with what was invalidated.
    TagsAreCompared,
    /// Who comes after an invalidation takes no older load's word for it.
    InvalidatedLoadsAreNotJoined,
    /// What was noted before something was missed is not trusted.
    LossIsDoubt,
    /// Trust ends when nothing is heard.
    TrustEnds,
    /// Nobody waits for a load that began before something that may have been missed.
    OldLoadsAreNotJoined,
    /// What was written under a key, or invalidated, takes the place of what others have.
    ChangesDrop,
    /// What is in doubt is compared with what the store has.
    VersionsAreCompared,
    /// Who comes while a value loads that is invalidated meanwhile looks again.
    WaitersLookAgain,
    /// What the store has yet to be told is not believed of it.
    OwedIsNotBelieved,
    /// What is owed and finds no room is covered by one that does.
    OverflowOwesAll,
    /// What happens again while it is told is told again.
    AgainIsToldAgain,
    /// What was found in the store while it was moved here, and nobody knows whether there, is gone.
    QueuedMovesAgain,
    /// What a process moves counts there at once.
    MovesCountAtOnce,
    /// What others move counts for what has no stamp.
    HeardCounts,
    /// What is older than a register that was forgotten is gone.
    ForgottenIsGone,
    /// A process that hears of a new clock takes all older for gone.
    BirthsDivide,
    /// What was stamped before a clock was born is gone.
    BornIsGone,
    /// Stamps grow whatever the time does.
    StampsGrow,
    /// A message that follows one that was missed tells so.
    GapsAreNoticed,
    /// The clock tells whether another one follows it.
    BirthsAreCompared,
    /// The clock tells how many messages there were.
    CountsAreCompared,
    /// Nothing is served that the registers say is gone.
    RegistersJudge,
    /// A value is stamped when its load begins. This rule and those that follow are the driver's, which is that of the simulator.
    #[cfg(test)]
    LoadsAreStampedFirst,
    /// What the store has is judged as well.
    #[cfg(test)]
    FramesAreJudged,
    /// What is loaded is noted as of when its load began.
    #[cfg(test)]
    LoadsKeepTheirSpan,
    /// Who hears of a change lets go of the load that is under way.
    #[cfg(test)]
    ChangesDetach,
    /// What has no stamp is not shared.
    #[cfg(test)]
    UnstampedIsNotShared,
    /// A message that cannot be read may be any.
    #[cfg(test)]
    MalformedIsLoss,
    /// Others are told of what the store has, not of what it will have.
    #[cfg(test)]
    StoreTells,
    /// The store is told what it missed.
    #[cfg(test)]
    OwedIsTold,
    /// What is moved here counts for what is found in the store meanwhile.
    #[cfg(test)]
    FoundIsNoted,
    /// Where trust does not hold, registers are asked for with what they judge.
    #[cfg(test)]
    RegistersAreAsked,
    /// What somebody else may have written is in doubt.
    #[cfg(test)]
    TouchedIsDoubt,
    /// A claim of which nobody knows whether it was laid is not asked for again: others may have taken it, and lost it. A rule
    /// for the stores of the tests.
    #[cfg(test)]
    ClaimsAreAskedOnce,
    /// Who wants a value anew takes the key from whoever loads it already. A rule for the store of the tests.
    #[cfg(test)]
    AnewClaims,
}

/// True where a test breaks this rule.
#[cfg(not(test))]
#[inline(always)]
pub const fn broken(_: Rule) -> bool {
    false
}

#[cfg(test)]
pub use switch::{broken, while_broken};

#[cfg(test)]
mod switch {
    use super::Rule;
    use std::cell::Cell;

    thread_local! {
        static BROKEN: Cell<u128> = const { Cell::new(0) };
    }

    /// True where a test breaks this rule.
    pub fn broken(rule: Rule) -> bool {
        BROKEN.get() & (1 << rule as u128) != 0
    }

    /// Does something with these rules broken, on this thread.
    pub fn while_broken<R>(rules: &[Rule], body: impl FnOnce() -> R) -> R {
        BROKEN.set(rules.iter().fold(0, |all, &rule| all | 1 << rule as u128));
        let result = body();
        BROKEN.set(0);
        result
    }
}
