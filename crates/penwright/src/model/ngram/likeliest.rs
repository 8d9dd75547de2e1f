//! What most likely follows a context, without the distribution over all tokens.

use super::{Context, Ngram};

impl Ngram {
    /// The context after one more token.
    pub(crate) fn after(&self, context: &Context, token: u32) -> Context {
        self.step(context, token).1
    }

    /// The likeliest token after a context and its probability; of equally likely ones that of the longest context.
    /// Exact, as [`Ngram::best`] is.
    pub(crate) fn likeliest(&self, context: &Context) -> (u32, f32) {
        let mut best = self.levels[0].prob.iter().position(|&p| f64::from(p) == self.best).unwrap_or(0) as u32;
        let mut most = self.best;
        for (k, &node) in context.nodes[..context.len].iter().enumerate() {
            let (children, above) = (self.levels[k].children(node), &self.levels[k + 1]);
            most *= f64::from(self.levels[k].backoff[node as usize]);
            let own = super::largest(&above.prob[children.clone()]);
            if f64::from(own) >= most && own > 0.0 {
                let place = above.prob[children.clone()].iter().position(|&p| p == own).unwrap_or(0);
                (best, most) = (above.token[children.start + place], own.into());
            }
        }
        (best, most as f32)
    }
}
