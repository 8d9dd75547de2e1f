//! The tasks that wait for a model: clients in turn, each client's tasks in the order in which they came.

use std::collections::VecDeque;

use super::task::Task;

/// A bounded queue, fair to its clients: one with a hundred tasks delays another's by one at a time.
pub(super) struct Queue<T = Task> {
    /// Clients with tasks; the first is served next.
    clients: VecDeque<(u64, VecDeque<T>)>,
    len: usize,
    most: usize,
}

impl<T> Queue<T> {
    pub(super) fn new(most: usize) -> Self {
        Queue { clients: VecDeque::new(), len: 0, most }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a task; gives it back when as many wait as may.
    pub(super) fn push(&mut self, client: u64, task: T) -> Result<(), T> {
        if self.len >= self.most {
            return Err(task);
        }
        self.len += 1;
        match self.clients.iter_mut().find(|(id, _)| *id == client) {
            Some((_, tasks)) => tasks.push_back(task),
            None => self.clients.push_back((client, VecDeque::from([task]))),
        }
        Ok(())
    }

    /// Takes the next task if it `fits`; nothing overtakes one that does not.
    pub(super) fn pop(&mut self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let (_, tasks) = self.clients.front_mut()?;
        if !tasks.front().is_some_and(fits) {
            return None;
        }
        let task = tasks.pop_front()?;
        self.len -= 1;
        if let Some(client) = self.clients.pop_front().filter(|(_, tasks)| !tasks.is_empty()) {
            self.clients.push_back(client);
        }
        Some(task)
    }

    /// Takes out the tasks for which `keep` does not hold.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.clients.iter_mut().for_each(|(_, tasks)| tasks.retain(&mut keep));
        self.clients.retain(|(_, tasks)| !tasks.is_empty());
        self.len = self.clients.iter().map(|(_, tasks)| tasks.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_turns_and_the_bound_holds() {
        let mut queue = Queue::new(6);
        for (client, task) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            assert!(queue.push(client, task).is_ok());
        }
        assert_eq!(queue.push(4, "d1"), Err("d1"));
        assert_eq!(queue.pop(|_| false), None);
        let mut order = Vec::new();
        while let Some(task) = queue.pop(|_| true) {
            order.push(task);
        }
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn tasks_leave_the_middle() {
        let mut queue = Queue::new(9);
        (0..6).for_each(|task| queue.push(task % 2, task).unwrap());
        queue.retain(|task| task % 3 == 0);
        assert_eq!(queue.len(), 2);
        assert_eq!((queue.pop(|_| true), queue.pop(|_| true), queue.pop(|_| true)), (Some(0), Some(3), None));
    }
}
