//! `ringway top`: what the status page shows, in a terminal, from `/status.json` of a process that may run
//! anywhere. It reads, and changes nothing.

mod fetch;
mod text;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

use crate::http::status::Status;
pub use fetch::Address;

/// Between two fetches.
const EVERY: Duration = Duration::from_secs(2);
/// How long a key or a new answer may go unnoticed.
const LOOK: Duration = Duration::from_millis(100);

/// Prints the status once, for scripts.
///
/// # Errors
/// The process cannot be reached, or answers something else.
pub fn once(address: &Address) -> Result<(), String> {
    let status = address.fetch()?;
    let mut out = io::stdout().lock();
    for line in text::lines(&status) {
        // A reader that has gone, as in `ringway top --once | head`, is no error.
        if writeln!(out, "{}", plain(&line)).is_err() {
            break;
        }
    }
    Ok(())
}

fn plain(line: &Line<'_>) -> String {
    let spans = line.spans.iter().map(|span| span.content.as_ref());
    spans.collect::<String>().trim_end().to_owned()
}

/// Shows the status until q or Ctrl-C.
///
/// # Errors
/// There is no terminal, or it fails. A process that does not answer is shown as such.
pub fn run(address: Address) -> Result<(), String> {
    if !io::stdout().is_terminal() {
        return Err("the output is no terminal; use --once".to_owned());
    }
    let (sender, answers) = mpsc::channel();
    let name = address.to_string();
    // It ends with the process, or when nobody listens any more.
    std::thread::spawn(move || {
        while sender.send(address.fetch()).is_ok() {
            std::thread::sleep(EVERY);
        }
    });
    let mut terminal = ratatui::try_init().map_err(|e| format!("cannot use the terminal: {e}"))?;
    let mut screen = Screen::new(name);
    let shown = loop {
        screen.take(&answers);
        let drawn = terminal.draw(|frame| screen.draw(frame, Instant::now()));
        match drawn.and_then(|_| next_key()) {
            Ok(None) => {}
            Ok(Some(key)) if leaves(key) => break Ok(()),
            Ok(Some(key)) => screen.press(key.code),
            Err(error) => break Err(format!("the terminal failed: {error}")),
        }
    };
    ratatui::restore();
    shown
}

/// A key that was pressed, or `None` after a moment or when the window has changed.
fn next_key() -> io::Result<Option<KeyEvent>> {
    if !event::poll(LOOK)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(key),
        _ => None,
    })
}

fn leaves(key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        // In raw mode it comes as a key.
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

/// What is on the screen.
struct Screen {
    /// Of the process.
    name: String,
    seen: Option<(Status, Instant)>,
    /// Why the last fetch failed, if it did.
    failure: Option<String>,
    /// Lines above the first that is shown.
    scroll: u16,
    /// Columns before the first that is shown.
    aside: u16,
}

impl Screen {
    fn new(name: String) -> Self {
        Self {
            name,
            seen: None,
            failure: None,
            scroll: 0,
            aside: 0,
        }
    }

    fn take(&mut self, answers: &mpsc::Receiver<Result<Status, String>>) {
        for answer in answers.try_iter() {
            self.fetched(answer, Instant::now());
        }
    }

    fn fetched(&mut self, answer: Result<Status, String>, now: Instant) {
        match answer {
            Ok(status) => {
                self.seen = Some((status, now));
                self.failure = None;
            }
            // What was seen stays, and is said to be old.
            Err(why) => self.failure = Some(why),
        }
    }

    fn press(&mut self, key: KeyCode) {
        const PAGE: u16 = 10;
        self.scroll = match key {
            KeyCode::Down | KeyCode::Char('j') => self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll.saturating_add(PAGE),
            KeyCode::PageUp => self.scroll.saturating_sub(PAGE),
            KeyCode::Home => 0,
            _ => self.scroll,
        };
        self.aside = match key {
            KeyCode::Right | KeyCode::Char('l') => self.aside.saturating_add(PAGE),
            KeyCode::Left | KeyCode::Char('h') => self.aside.saturating_sub(PAGE),
            KeyCode::Home => 0,
            _ => self.aside,
        };
    }

    fn draw(&mut self, frame: &mut Frame<'_>, now: Instant) {
        let news = self.news(now);
        let height = wrapped(&plain(&news), frame.area().width).min(4);
        let news = Paragraph::new(news).wrap(Wrap { trim: true });
        let [top, middle, bottom] = Layout::vertical([
            Constraint::Length(height),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(news, top);
        let lines = self.seen.as_ref().map(|(status, _)| text::lines(status));
        let lines = lines.unwrap_or_default();
        let last = (lines.len() as u16).saturating_sub(middle.height);
        self.scroll = self.scroll.min(last);
        let widest = lines.iter().map(Line::width).max().unwrap_or_default() as u16;
        self.aside = self.aside.min(widest.saturating_sub(middle.width));
        frame.render_widget(
            Paragraph::new(lines).scroll((self.scroll, self.aside)),
            middle,
        );
        let keys = Line::from(format!("q quits, arrows scroll   {}", self.name)).dim();
        frame.render_widget(keys, bottom);
    }

    /// Whether what is shown is new.
    fn news(&self, now: Instant) -> Line<'static> {
        let age = |at: &Instant| text::span(now.saturating_duration_since(*at));
        match (&self.failure, &self.seen) {
            (None, None) => Line::from("asking"),
            (None, Some((_, at))) => Line::from(format!("as of {} ago", age(at))).dim(),
            (Some(why), None) => Line::from(format!("✕ {why}")).fg(Color::Red).bold(),
            (Some(why), Some((_, at))) => {
                let text = format!("✕ {why}. What follows is {} old.", age(at));
                Line::from(text).fg(Color::Red).bold()
            }
        }
    }
}

/// How many rows a text takes when it is broken between words; at least one.
fn wrapped(text: &str, width: u16) -> u16 {
    let width = usize::from(width.max(1));
    let (mut rows, mut column) = (1, 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            (rows, column) = (rows + 1, 0);
        }
        column += usize::from(column > 0) + length;
        // A word that is wider than all is broken.
        rows += column.saturating_sub(1) / width;
        column = column.saturating_sub(1) % width + usize::from(column > 0);
    }
    u16::try_from(rows).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
