//! Geohashes: a place on Earth as one number whose bits are, by turns, those of
//! its longitude and latitude, so that neighbours mostly have similar numbers.
//!
//! Constants and rounding are those of Redis, so that scores, distances and the
//! places read back agree with its.

/// Metres; the sphere that distances are measured on.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the length of the equator in the Mercator projection.
const MERCATOR_MAX: f64 = 20_037_726.37;

pub const LONGITUDE_MAX: f64 = 180.0;
pub const LATITUDE_MAX: f64 = 85.051_128_78;

/// Bits per axis of a full geohash.
pub const STEP_MAX: u32 = 26;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// A geohash of `step` bits per axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub bits: u64,
    pub step: u32,
}

/// The rectangle that a cell covers.
#[derive(Clone, Copy, Debug)]
struct Area {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

/// Spreads 32 bits to the even places of 64.
fn spread(n: u32) -> u64 {
    let mut x = u64::from(n);
    for (shift, mask) in [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        x = (x | x << shift) & mask;
    }
    x
}

/// The reverse of [`spread`].
fn gather(n: u64) -> u32 {
    let mut x = n & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0F0F_0F0F_0F0F_0F0F),
        (4, 0x00FF_00FF_00FF_00FF),
        (8, 0x0000_FFFF_0000_FFFF),
        (16, 0x0000_0000_FFFF_FFFF),
    ] {
        x = (x | x >> shift) & mask;
    }
    x as u32
}

fn encode(p: Point, step: u32, latitude_max: f64) -> Cell {
    let scale = (1u64 << step) as f64;
    let latitude = (p.latitude + latitude_max) / (2.0 * latitude_max) * scale;
    let longitude = (p.longitude + LONGITUDE_MAX) / (2.0 * LONGITUDE_MAX) * scale;
    Cell { bits: spread(latitude as u32) | spread(longitude as u32) << 1, step }
}

/// The number that a place is kept under: 52 bits.
pub fn score(p: Point) -> u64 {
    encode(p, STEP_MAX, LATITUDE_MAX).bits
}

/// The eleven characters of the usual notation, which counts latitudes up to 90.
pub fn text(p: Point) -> [u8; 11] {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let bits = encode(p, STEP_MAX, 90.0).bits;
    // 52 bits make ten characters; the last is always the first of the alphabet.
    std::array::from_fn(|i| if i == 10 { ALPHABET[0] } else { ALPHABET[(bits >> (52 - (i + 1) * 5)) as usize & 31] })
}

impl Cell {
    fn area(self) -> Area {
        let scale = (1u64 << self.step) as f64;
        let (y, x) = (gather(self.bits), gather(self.bits >> 1));
        let along = |i: f64, max: f64| -max + i / scale * (2.0 * max);
        Area {
            west: along(f64::from(x), LONGITUDE_MAX),
            east: along(f64::from(x) + 1.0, LONGITUDE_MAX),
            south: along(f64::from(y), LATITUDE_MAX),
            north: along(f64::from(y) + 1.0, LATITUDE_MAX),
        }
    }

    /// The cell so many cells to the east and north; negative numbers go back.
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let unused = 64 - 2 * self.step;
        let (odd, even) = (0xAAAA_AAAA_AAAA_AAAAu64, 0x5555_5555_5555_5555u64);
        let moved = |own: u64, other: u64, by: i32| {
            let filler = other >> unused;
            let bits = self.bits & own;
            let bits = match by {
                0 => return bits,
                1 => bits.wrapping_add(filler + 1),
                _ => (bits | filler).wrapping_sub(filler + 1),
            };
            bits & (own >> unused)
        };
        Cell { bits: moved(odd, even, east) | moved(even, odd, north), step: self.step }
    }

    /// The scores of the places within: the first one, and the first beyond.
    pub fn scores(self) -> (u64, u64) {
        let shift = 52 - 2 * self.step;
        (self.bits << shift, (self.bits + 1) << shift)
    }
}

/// The place of a score, as exactly as it is kept.
pub fn place(score: f64) -> Point {
    let area = Cell { bits: truncated(score), step: STEP_MAX }.area();
    Point {
        longitude: ((area.west + area.east) / 2.0).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
        latitude: ((area.south + area.north) / 2.0).clamp(-LATITUDE_MAX, LATITUDE_MAX),
    }
}

/// A double as an unsigned integer, as x86 converts what does not fit: scores
/// need not come from a place.
fn truncated(v: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    let signed = |v: f64| if (-HALF..HALF).contains(&v) { v as i64 } else { i64::MIN };
    if v < HALF || v.is_nan() { signed(v) as u64 } else { signed(v - HALF) as u64 ^ 1 << 63 }
}

fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// Metres between two latitudes.
fn latitude_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS * (radians(b) - radians(a)).abs()
}

/// Metres between two places, by the haversine formula.
pub fn distance(a: Point, b: Point) -> f64 {
    let v = ((radians(b.longitude) - radians(a.longitude)) / 2.0).sin();
    if v == 0.0 {
        return latitude_distance(a.latitude, b.latitude);
    }
    let (lat_a, lat_b) = (radians(a.latitude), radians(b.latitude));
    let u = ((lat_b - lat_a) / 2.0).sin();
    2.0 * EARTH_RADIUS * (u * u + lat_a.cos() * lat_b.cos() * v * v).sqrt().asin()
}

/// A shape around a place, in metres.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Shape {
    /// The distance of a place from the centre, if the shape covers it.
    pub fn covers(self, centre: Point, p: Point) -> Option<f64> {
        match self {
            Shape::Circle { radius } => Some(distance(centre, p)).filter(|d| *d <= radius),
            Shape::Box { width, height } => {
                if latitude_distance(p.latitude, centre.latitude) > height / 2.0 {
                    return None;
                }
                let level = Point { longitude: centre.longitude, latitude: p.latitude };
                (distance(p, level) <= width / 2.0).then(|| distance(centre, p))
            }
        }
    }

    /// Half width, half height, and the radius of a circle around all.
    fn extent(self) -> (f64, f64, f64) {
        match self {
            Shape::Circle { radius } => (radius, radius, radius),
            Shape::Box { width, height } => {
                let (w, h) = (width / 2.0, height / 2.0);
                (w, h, (w * w + h * h).sqrt())
            }
        }
    }

    fn bounds(self, centre: Point) -> Area {
        let (width, height, _) = self.extent();
        let up = degrees(height / EARTH_RADIUS);
        // Meridians are closer to each other towards the pole.
        let wide = if centre.latitude < 0.0 { centre.latitude - up } else { centre.latitude + up };
        let side = degrees(width / EARTH_RADIUS / radians(wide).cos());
        Area {
            west: centre.longitude - side,
            east: centre.longitude + side,
            south: centre.latitude - up,
            north: centre.latitude + up,
        }
    }

    /// Cells that together cover the shape, in the order of the search.
    pub fn cells(self, centre: Point) -> Vec<Cell> {
        let bounds = self.bounds(centre);
        let mut cell = encode(centre, steps(self.extent().2, centre.latitude), LATITUDE_MAX);
        let near = |east, north| cell.neighbour(east, north).area();
        let short = near(0, 1).north < bounds.north
            || near(0, -1).south > bounds.south
            || near(1, 0).east < bounds.east
            || near(-1, 0).west > bounds.west;
        if cell.step > 1 && short {
            cell = encode(centre, cell.step - 1, LATITUDE_MAX);
        }
        let (area, fine) = (cell.area(), cell.step >= 2);
        let useless = |east: i32, north: i32| {
            fine && (north < 0 && area.south < bounds.south
                || north > 0 && area.north > bounds.north
                || east < 0 && area.west < bounds.west
                || east > 0 && area.east > bounds.east)
        };
        let all = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells = Vec::with_capacity(all.len());
        for (east, north) in all.into_iter().filter(|&(e, n)| !useless(e, n)) {
            let next = cell.neighbour(east, north);
            // Of few large cells, neighbours on both sides are the same one.
            if cells.last() != Some(&next) {
                cells.push(next);
            }
        }
        cells
    }
}

/// Bits per axis of cells of which nine cover a radius (metres).
fn steps(radius: f64, latitude: f64) -> u32 {
    if radius == 0.0 {
        return STEP_MAX;
    }
    let (mut range, mut step) = (radius, 1i32);
    while range < MERCATOR_MAX {
        range *= 2.0;
        step += 1;
    }
    step -= 2;
    if latitude.abs() > 66.0 {
        step -= 1 + i32::from(latitude.abs() > 80.0);
    }
    step.clamp(1, STEP_MAX as i32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn at(longitude: f64, latitude: f64) -> Point {
        Point { longitude, latitude }
    }

    /// Figures that redis-server 7.0.15 replied.
    #[test]
    fn figures_are_those_of_redis() {
        let (palermo, catania) = (at(13.361389, 38.115556), at(15.087269, 37.502669));
        assert_eq!(score(palermo), 3_479_099_956_230_698);
        assert_eq!(score(catania), 3_479_447_370_796_909);
        let places = [palermo, catania].map(|p| place(score(p) as f64));
        assert_eq!(format!("{:.4}", distance(places[0], places[1])), "166274.1516");
        assert_eq!(&text(places[0]), b"sqc8b49rny0");
        assert_eq!(&text(places[1]), b"sqdtr74hyu0");
    }

    #[test]
    fn places_and_scores_belong_together() {
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            let p = at(rng.unit() * 360.0 - 180.0, rng.unit() * 170.0 - 85.0);
            let q = place(score(p) as f64);
            assert!(distance(p, q) < 1.0, "{p:?} {q:?}");
            assert_eq!(score(q), score(p));
        }
    }

    /// Whatever a shape covers lies in its cells.
    #[test]
    fn cells_cover_the_shape() {
        let mut rng = Rng::new(2);
        for _ in 0..2000 {
            let centre = at(rng.unit() * 300.0 - 150.0, rng.unit() * 120.0 - 60.0);
            let size = 10f64.powf(1.0 + rng.unit() * 4.5);
            for shape in [Shape::Circle { radius: size }, Shape::Box { width: size, height: size * 0.7 }] {
                let cells = shape.cells(centre);
                let p = at(
                    centre.longitude + (rng.unit() - 0.5) * size / 60_000.0,
                    centre.latitude + (rng.unit() - 0.5) * size / 80_000.0,
                );
                if shape.covers(centre, p).is_some() && p.longitude.abs() < 179.0 && p.latitude.abs() < 84.0 {
                    let s = score(p);
                    assert!(
                        cells.iter().any(|c| (c.scores().0..c.scores().1).contains(&s)),
                        "{shape:?} {centre:?} {p:?}"
                    );
                }
            }
        }
    }
}
