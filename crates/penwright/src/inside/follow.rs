//! Which cells follow something in the text: the correlation of each cell, over the tokens of a text, with properties
//! that anyone can see (as Karpathy, Johnson and Fei-Fei 2015 looked for them by eye).
//!
//! With hundreds of cells some correlate with anything by chance. So the cells are chosen on the first half of the
//! text, and beside that correlation stands the one over the second half, which had no part in the choice.

use serde::{Deserialize, Serialize};

/// Tokens of a half below which a correlation says nothing.
const FEWEST: usize = 16;

/// Something of the text so far that a cell may follow, told after each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Property {
    /// Whether a quotation is open.
    Quotation,
    /// Whether somebody has begun to speak in this paragraph.
    Dialogue,
    /// How far the line has come: the logarithm of its characters.
    Line,
    /// How far the sentence has come: the logarithm of its characters.
    Sentence,
    /// How far the word has come: its characters.
    Word,
    /// Whether white space was just read: a word begins next.
    Space,
    /// Whether a capital was just read.
    Capital,
}

impl Property {
    /// All of them.
    pub const ALL: [Property; 7] = [
        Property::Quotation,
        Property::Dialogue,
        Property::Line,
        Property::Sentence,
        Property::Word,
        Property::Space,
        Property::Capital,
    ];
}

/// A cell that follows a property.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Follower {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its number within the layer, from 0.
    pub cell: usize,
    /// Pearson's correlation of tanh(cell value) with the property over the first half of the text, in −1 … 1.
    pub chosen: f64,
    /// The same over the second half, which had no part in the choice; `None` where either is constant there.
    pub unseen: Option<f64>,
}

/// The cells that follow a property best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Follows {
    /// The property.
    pub property: Property,
    /// Its value after each token, `[tokens]`.
    pub values: Vec<f32>,
    /// The cells, best first; none where the property does not change over the text's first half.
    pub cells: Vec<Follower>,
}

/// What the text so far is like.
#[derive(Default)]
struct Reader {
    quoted: bool,
    spoken: bool,
    line: u32,
    sentence: u32,
    word: u32,
    last: Option<char>,
}

impl Reader {
    fn read(&mut self, c: char) {
        self.line += 1;
        self.sentence += 1;
        self.word = if c.is_alphanumeric() || (self.word > 0 && matches!(c, '\'' | '’')) { self.word + 1 } else { 0 };
        match c {
            // A quotation ends with its paragraph, so that one that is never closed turns nothing around.
            '\n' => (self.quoted, self.spoken, self.line, self.sentence) = (false, false, 0, 0),
            '"' => (self.quoted, self.spoken) = (!self.quoted, true),
            '“' | '„' | '«' => (self.quoted, self.spoken) = (true, true),
            '”' | '»' => self.quoted = false,
            '.' | '!' | '?' => self.sentence = 0,
            _ => {}
        }
        self.last = Some(c);
    }

    fn value(&self, property: Property) -> f32 {
        let flag = |is: bool| f32::from(u8::from(is));
        match property {
            Property::Quotation => flag(self.quoted),
            Property::Dialogue => flag(self.spoken),
            Property::Line => (self.line as f32).ln_1p(),
            Property::Sentence => (self.sentence as f32).ln_1p(),
            Property::Word => self.word as f32,
            Property::Space => flag(self.last.is_some_and(char::is_whitespace)),
            Property::Capital => flag(self.last.is_some_and(char::is_uppercase)),
        }
    }
}

/// The properties of a text after each of its tokens, which end at the bytes `ends`: `[properties, tokens]`.
pub(super) fn properties(text: &str, ends: &[usize]) -> Vec<Vec<f32>> {
    let mut values = vec![Vec::with_capacity(ends.len()); Property::ALL.len()];
    let (mut reader, mut chars) = (Reader::default(), text.char_indices().peekable());
    for &end in ends {
        while let Some((_, c)) = chars.next_if(|(at, _)| *at < end) {
            reader.read(c);
        }
        values.iter_mut().zip(Property::ALL).for_each(|(values, property)| values.push(reader.value(property)));
    }
    values
}

/// Sums over the tokens of one half of the text: of each property x, of each cell y, and of their products.
struct Half {
    count: f64,
    x: Vec<f64>,
    xx: Vec<f64>,
    y: Vec<f64>,
    yy: Vec<f64>,
    /// `[properties, cells]`.
    xy: Vec<f64>,
}

impl Half {
    fn new(properties: usize, cells: usize) -> Self {
        let zeros = |n| vec![0.0; n];
        Half {
            count: 0.0,
            x: zeros(properties),
            xx: zeros(properties),
            y: zeros(cells),
            yy: zeros(cells),
            xy: zeros(properties * cells),
        }
    }

    fn add(&mut self, x: impl Iterator<Item = f64>, y: &[f64]) {
        self.count += 1.0;
        for (i, x) in x.enumerate() {
            self.x[i] += x;
            self.xx[i] += x * x;
            self.xy[i * y.len()..].iter_mut().zip(y).for_each(|(sum, y)| *sum += x * y);
        }
        for ((sum, squares), y) in self.y.iter_mut().zip(&mut self.yy).zip(y) {
            *sum += y;
            *squares += y * y;
        }
    }

    /// Pearson's correlation of a property and a cell.
    fn correlation(&self, property: usize, cell: usize) -> Option<f64> {
        if self.count < FEWEST as f64 {
            return None;
        }
        let (x, y) = (self.x[property] / self.count, self.y[cell] / self.count);
        let covariance = self.xy[property * self.y.len() + cell] / self.count - x * y;
        let [vx, vy] = [self.xx[property] / self.count - x * x, self.yy[cell] / self.count - y * y];
        // Below this a variance is what rounding leaves of none.
        let correlation = (vx > 1e-9 && vy > 1e-9).then(|| covariance / (vx * vy).sqrt());
        correlation.filter(|r| r.is_finite()).map(|r| r.clamp(-1.0, 1.0))
    }
}

/// Gathers correlations as a text runs through a model.
pub(super) struct Correlations {
    properties: Vec<Vec<f32>>,
    halves: [Half; 2],
    /// Layer and number of each cell.
    cells: Vec<(usize, usize)>,
    row: Vec<f64>,
}

impl Correlations {
    /// For cells of layers so wide, over properties `[properties, tokens]`.
    pub(super) fn new(properties: Vec<Vec<f32>>, widths: &[usize]) -> Self {
        let cells: Vec<_> =
            widths.iter().enumerate().flat_map(|(layer, &width)| (0..width).map(move |cell| (layer, cell))).collect();
        let half = || Half::new(properties.len(), cells.len());
        Correlations { halves: [half(), half()], row: Vec::with_capacity(cells.len()), properties, cells }
    }

    /// Takes the values of some more cells after a token, in order; of the last, the token is done.
    pub(super) fn add(&mut self, token: usize, cells: &[f32]) {
        self.row.extend(cells.iter().map(|&cell| f64::from(cell.tanh())));
        if self.row.len() >= self.cells.len() {
            let tokens = self.properties.first().map_or(0, Vec::len);
            let values = self.properties.iter().map(|values| f64::from(values[token]));
            self.halves[usize::from(token >= tokens / 2)].add(values, &self.row);
            self.row.clear();
        }
    }

    /// The `top` best cells of each property.
    pub(super) fn best(self, top: usize) -> Vec<Follows> {
        let [first, second] = &self.halves;
        let followers = |property: usize| {
            let all = self.cells.iter().enumerate().filter_map(|(i, &(layer, cell))| {
                let chosen = first.correlation(property, i)?;
                Some(Follower { layer, cell, chosen, unseen: second.correlation(property, i) })
            });
            let mut all: Vec<_> = all.collect();
            all.sort_by(|a, b| b.chosen.abs().total_cmp(&a.chosen.abs()));
            all.truncate(top);
            all
        };
        let cells: Vec<_> = (0..self.properties.len()).map(followers).collect();
        let all = Property::ALL.into_iter().zip(self.properties).zip(cells);
        all.map(|((property, values), cells)| Follows { property, values, cells }).collect()
    }
}
