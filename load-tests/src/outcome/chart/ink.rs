//! Colours. The SVG has those for a light page; the page's style finds each by its code and puts the dark one in its place.

use std::fmt::Write;

use plotters::style::RGBColor;

/// A colour by what it is for, or by its name where it may be for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::outcome) enum Ink {
    /// Labels.
    Text,
    /// The lines that labels belong to.
    Grid,
    /// Every other phase.
    Band,
    /// What a threshold allows; dashed.
    Limit,
    /// The server's own count; dashed, because it lies upon the clients' when all is well.
    Server,
    Blue,
    Orange,
    Green,
    Red,
    Violet,
    Teal,
    Pink,
    Slate,
}

impl Ink {
    const ALL: [Self; 13] = [
        Self::Text,
        Self::Grid,
        Self::Band,
        Self::Limit,
        Self::Server,
        Self::Blue,
        Self::Orange,
        Self::Green,
        Self::Red,
        Self::Violet,
        Self::Teal,
        Self::Pink,
        Self::Slate,
    ];

    /// Its name in the style, its code on a light page and on a dark one. No two light codes may be the same.
    const fn codes(self) -> (&'static str, u32, u32) {
        match self {
            Self::Text => ("text", 0x58_6070, 0x9B_A5B4),
            Self::Grid => ("grid", 0xE3_E6EB, 0x2C_333D),
            Self::Band => ("band", 0xF4_F6F9, 0x1D_222A),
            Self::Limit => ("limit", 0xB9_1C1D, 0xFC_A5A5),
            Self::Server => ("server", 0xC2_410C, 0xFD_BA74),
            Self::Blue => ("blue", 0x25_63EB, 0x60_A5FA),
            Self::Orange => ("orange", 0xEA_580C, 0xFB_923C),
            Self::Green => ("green", 0x16_A34A, 0x4A_DE80),
            Self::Red => ("red", 0xDC_2626, 0xF8_7171),
            Self::Violet => ("violet", 0x7C_3AED, 0xA7_8BFA),
            Self::Teal => ("teal", 0x0D_9488, 0x2D_D4BF),
            Self::Pink => ("pink", 0xDB_2777, 0xF4_72B6),
            Self::Slate => ("slate", 0x64_748B, 0x94_A3B8),
        }
    }

    /// Its name in the style.
    pub(in crate::outcome) const fn name(self) -> &'static str {
        self.codes().0
    }

    /// As it is drawn.
    pub(super) const fn rgb(self) -> RGBColor {
        let [_, red, green, blue] = self.codes().1.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// The style that gives each a name, and a dark page its own.
    pub(in crate::outcome) fn style() -> String {
        let (mut light, mut dark, mut rules) = (String::new(), String::new(), String::new());
        for (name, day, night) in Self::ALL.map(Self::codes) {
            write!(light, "--{name}:#{day:06X};").ok();
            write!(dark, "--{name}:#{night:06X};").ok();
            for part in ["fill", "stroke"] {
                writeln!(rules, "svg [{part}=\"#{day:06X}\"]{{{part}:var(--{name})}}").ok();
            }
            writeln!(rules, ".key.{name}::before{{border-color:var(--{name})}}").ok();
        }
        for (name, day, _) in [Self::Limit, Self::Server].map(Self::codes) {
            // In the SVG's fine parts of a pixel.
            writeln!(
                rules,
                "svg [stroke=\"#{day:06X}\"]{{stroke-dasharray:20 14}}"
            )
            .ok();
            writeln!(rules, ".key.{name}::before{{border-top-style:dashed}}").ok();
        }
        format!(
            ":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_drawn_alike() {
        let mut codes = Ink::ALL.map(|ink| ink.codes().1);
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
