//! What membership will do when: an ordered queue of tasks.
//!
//! Rule kept here: tasks run in the order of their due times, and those due together in the order
//! in which they were added. Foca relies on that: an indirect probe runs before the next probe.

use std::collections::BTreeMap;

use foca::Timer;

use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::identity::NodeId;
use crate::time::Moment;

/// Something to do later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A timer of foca's, except those that end a suspicion.
    Foca(Timer<Identity>),
    /// A suspicion against this node ends, unless it was put off.
    Accuse(NodeId),
    /// Tell this node once more that it is suspected.
    Press(NodeId),
    /// Look for others if alone, and clear up suspicions that nobody follows.
    Tend,
    /// Send our record to the next member.
    SendRecord,
    /// Say that our group is together, if that is ours to say.
    Stamp,
}

/// Tasks by due time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    tasks: BTreeMap<(Moment, u64), Task>,
    added: u64,
}

impl Schedule {
    /// Adds a task.
    pub(super) fn add(&mut self, due: Moment, task: Task) {
        self.added += 1;
        self.tasks.insert((due, self.added), task);
    }

    /// When the next task is due.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.tasks.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes out the next task if it is due.
    pub(super) fn next_due(&mut self, now: Moment) -> Option<Task> {
        let first = self.tasks.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Takes out all tasks for which `is_unwanted`.
    pub(super) fn remove(&mut self, is_unwanted: impl Fn(&Task) -> bool) {
        self.tasks.retain(|_, task| !is_unwanted(task));
    }

    /// Gives every task the due time that `due` makes of the task and its due time so far.
    pub(super) fn shift(&mut self, due: impl Fn(&Task, Moment) -> Moment) {
        // In the old order, so that tasks which become due together keep it.
        for ((before, _), task) in std::mem::take(&mut self.tasks) {
            self.add(due(&task, before), task);
        }
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) {
        self.tasks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn tasks_come_in_the_order_of_their_due_times_and_not_before() {
        let mut schedule = Schedule::default();
        schedule.add(at(20), Task::Tend);
        schedule.add(at(10), Task::SendRecord);
        schedule.add(at(20), Task::Press(NodeId::from_raw(1)));
        assert_eq!(schedule.deadline(), Some(at(10)));
        assert_eq!(schedule.next_due(at(9)), None);
        assert_eq!(schedule.next_due(at(20)), Some(Task::SendRecord));
        assert_eq!(schedule.next_due(at(20)), Some(Task::Tend));
        assert_eq!(schedule.next_due(at(20)), Some(Task::Press(NodeId::from_raw(1))));
        assert_eq!(schedule.next_due(at(20)), None);
    }

    #[test]
    fn tasks_shifted_to_the_same_time_keep_their_order() {
        let mut schedule = Schedule::default();
        schedule.add(at(10), Task::SendRecord);
        schedule.add(at(20), Task::Tend);
        schedule.shift(|_, due| due.max(at(30)));
        assert_eq!(schedule.next_due(at(30)), Some(Task::SendRecord));
        assert_eq!(schedule.next_due(at(30)), Some(Task::Tend));
    }
}
