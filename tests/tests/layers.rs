//! kernel/core is built in layers: a file imports its own layer and those below, never above, and no circle of imports is larger
//! than one layer. This test reads every path in the kernel's sources (`use` declarations, paths in expressions, types
//! and macros) and holds them against the table below; no machine is booted.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The layers from the ground up: the files and folders of kernel/core/src in each.
const LAYERS: &[&[&str]] = &[
    &["sync", "sched", "time", "irq", "log", "random", "command_line", "user"],
    &["task"],
    &["mm", "block"],
    &["vfs"],
    &["process"],
    &["file", "ipc", "net", "fs", "machine"],
    &["observe"],
    &["syscall"],
    &["init"],
];

const THREADS: &str = "inherent: threads are what the scheduler switches, a lock wakes and a timer ends the wait of";
const FIELDS: &str =
    "inherent: a task holds each subsystem's part as a field; typed slots would cost instructions on every system call";

/// Imports that go up all the same: who, whom (a file, or a folder with all in it), why. Each must be in use; the list only shrinks.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("sched", "task", THREADS),
    ("sched/account", "task", THREADS),
    ("sched/change", "task", THREADS),
    ("sched/park", "task", THREADS),
    ("sched/queue", "task", THREADS),
    ("sched/switch", "task", THREADS),
    ("sync/rank", "task", THREADS),
    ("sync/wait", "task", THREADS),
    ("sync/wake_list", "task", THREADS),
    ("time/timer", "task", THREADS),
    ("task/task", "mm", FIELDS),
    ("task/task", "vfs", FIELDS),
    ("task/task", "process/signal", FIELDS),
    ("task/task", "ipc", FIELDS),
    ("task/process", "process", FIELDS),
    ("task/process", "vfs", FIELDS),
    ("task/life", "vfs", FIELDS),
    ("vfs/ops", "file/epoll", "to be turned: a poll listener is a trait object"),
    ("vfs/ops", "net", "to be turned: a socket is found by its FileOps"),
];

/// A module's path below the crate: `["vfs", "ops"]`; the crate root's is empty.
type Module = Vec<String>;

/// One import: the module as it is named, the module in which the name is defined (behind re-exports), where it stands.
struct Import {
    from: Module,
    named: Module,
    defined: Module,
    path: String,
    line: usize,
}

/// What one file says.
#[derive(Default)]
struct Source {
    /// Paths that may lead to another module, with their lines: absolute, below the crate.
    paths: Vec<(Vec<String>, usize)>,
    /// Names that a `use` brings in and what they stand for.
    aliases: BTreeMap<String, Vec<String>>,
    /// Names that a `pub use` passes on, by the (inline) module it stands in.
    exports: BTreeMap<(Module, String), Vec<String>>,
    /// Whether the prelude is in scope.
    prelude: bool,
    /// Names used alone or at the beginning of a path, with their lines.
    names: Vec<(Vec<String>, usize)>,
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel/core/src")
}

fn collect(folder: &Path, module: &Module, files: &mut BTreeMap<Module, PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut inner = module.clone();
        if path.is_dir() {
            inner.push(stem);
            collect(&path, &inner, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            if stem != "mod" && stem != "main" {
                inner.push(stem);
            }
            files.insert(inner, path);
        }
    }
}

/// Reads one file's tokens.
struct Reader<'a> {
    modules: &'a BTreeSet<Module>,
    source: Source,
}

impl Reader<'_> {
    /// The absolute form of a path that begins in `module`, or None when it begins with something that is not a module.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let mut base = module.clone();
        match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" => return Some([&base[..], &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                base.truncate(base.len().saturating_sub(ups));
                return Some([&base[..], &path[ups..]].concat());
            }
            _ => {}
        }
        base.push(path[0].clone());
        self.modules.contains(&base).then(|| [&base[..], &path[1..]].concat())
    }

    /// A use tree: every leaf with the name it gets.
    fn use_tree(tokens: &[TokenTree], prefix: &[String], leaves: &mut Vec<(Vec<String>, Option<String>, usize)>) {
        let mut path = prefix.to_vec();
        let mut name = None;
        let mut line = 0;
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index] {
                TokenTree::Ident(ident) if ident == "as" => {
                    index += 1;
                    name = tokens.get(index).map(ToString::to_string);
                }
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".into()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for part in inner.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
                    {
                        if !part.is_empty() {
                            Self::use_tree(part, &path, leaves);
                        }
                    }
                    return;
                }
                _ => {}
            }
            index += 1;
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        name = name.or_else(|| path.last().cloned());
        leaves.push((path, name, line));
    }

    fn read(&mut self, stream: TokenStream, module: &Module) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let is_punct = |index: usize, wanted: char| matches!(tokens.get(index), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
        let ident = |index: usize| match tokens.get(index) {
            Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
            _ => None,
        };
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index] {
                TokenTree::Ident(word) if word == "use" => {
                    let end = (index..tokens.len()).find(|at| is_punct(*at, ';')).unwrap_or(tokens.len());
                    // `pub use`, `pub(crate) use`.
                    let public = (index >= 1 && ident(index - 1).is_some_and(|word| word == "pub"))
                        || (index >= 2 && ident(index - 2).is_some_and(|word| word == "pub"));
                    let mut leaves = Vec::new();
                    Self::use_tree(&tokens[index + 1..end], &[], &mut leaves);
                    for (path, name, line) in leaves {
                        let Some(absolute) = self.absolute(module, &path) else { continue };
                        if absolute == ["prelude", "*"] {
                            self.source.prelude = true;
                            continue;
                        }
                        if let Some(name) = name {
                            self.source.aliases.insert(name.clone(), absolute.clone());
                            if public {
                                self.source.exports.insert((module.clone(), name), absolute.clone());
                            }
                        }
                        self.source.paths.push((absolute, line));
                    }
                    index = end;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    let mut inner = module.clone();
                    inner.extend(ident(index + 1));
                    if let Some(TokenTree::Group(group)) = tokens.get(index + 2) {
                        self.read(group.stream(), &inner);
                        index += 2;
                    }
                }
                TokenTree::Ident(word) => {
                    let line = word.span().start().line;
                    // `$crate` of a macro is the crate as well; a field or method is no path.
                    let field = index > 0 && is_punct(index - 1, '.') && !(index > 1 && is_punct(index - 2, '.'));
                    let mut path = vec![word.to_string()];
                    while is_punct(index + 1, ':') && is_punct(index + 2, ':') {
                        let Some(next) = ident(index + 3) else { break };
                        path.push(next);
                        index += 3;
                    }
                    let call_of_macro = is_punct(index + 1, '!');
                    if !(field || call_of_macro && path.len() <= 2) {
                        let calls = matches!(tokens.get(index + 1), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
                        let type_name = path[0].starts_with(char::is_uppercase);
                        if path.len() > 1 {
                            if let Some(absolute) = self.absolute(module, &path) {
                                self.source.paths.push((absolute, line));
                            } else {
                                self.source.names.push((path, line));
                            }
                        } else if calls || type_name {
                            self.source.names.push((path, line));
                        }
                    }
                }
                TokenTree::Group(group) => self.read(group.stream(), module),
                _ => {}
            }
            index += 1;
        }
    }
}

struct Sources {
    modules: BTreeSet<Module>,
    imports: Vec<Import>,
}

fn read_sources() -> Sources {
    let mut files = BTreeMap::new();
    collect(&source_folder(), &Vec::new(), &mut files);
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    let mut sources = BTreeMap::new();
    for (module, path) in &files {
        let text = std::fs::read_to_string(path).expect("a source file");
        let mut reader = Reader { modules: &modules, source: Source::default() };
        reader.read(text.parse().expect("Rust"), module);
        sources.insert(module.clone(), reader.source);
    }
    let exports: BTreeMap<(Module, String), Vec<String>> =
        sources.values().flat_map(|source: &Source| source.exports.clone()).collect();
    let prelude = |name: &str| exports.get(&(vec!["prelude".into()], name.into())).cloned();

    // The longest beginning of a path that is a file.
    let module_of =
        |path: &[String]| (0..=path.len()).rev().find(|n| modules.contains(&path[..*n])).map(|n| path[..n].to_vec());
    let defined_in = |path: &[String]| {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let module = module_of(&path)?;
            let next = path.get(module.len()).and_then(|name| exports.get(&(module.clone(), name.clone())));
            match next {
                Some(next) => path = [&next[..], &path[module.len() + 1..]].concat(),
                None => return Some(module),
            }
        }
        module_of(&path)
    };
    let mut imports = Vec::new();
    for (from, source) in &sources {
        let mut add = |path: &[String], line: usize| {
            if let (Some(named), Some(defined)) = (module_of(path), defined_in(path))
                && named != *from
                && !named.is_empty()
            {
                imports.push(Import { from: from.clone(), named, defined, path: path.join("::"), line });
            }
        };
        for (path, line) in &source.paths {
            add(path, *line);
        }
        for (path, line) in &source.names {
            if let Some(start) = source.aliases.get(&path[0]) {
                if path.len() > 1 {
                    add(&[&start[..], &path[1..]].concat(), *line);
                }
            } else if source.prelude
                && let Some(target) = prelude(&path[0])
            {
                add(&target, *line);
            }
        }
    }
    Sources { modules, imports }
}

fn layer(module: &Module) -> Option<usize> {
    let top = module.first()?;
    LAYERS.iter().position(|layer| layer.contains(&top.as_str()))
}

fn file_name(module: &Module) -> String {
    module.join("/")
}

/// The exception that allows an import, by its place in the list.
fn excepted(import: &Import) -> Option<usize> {
    EXCEPTIONS.iter().position(|(from, to, _)| {
        let (named, file) = (file_name(&import.named), file_name(&import.from));
        file == *from && (named == *to || named.strip_prefix(to).is_some_and(|rest| rest.starts_with('/')))
    })
}

#[test]
fn every_file_has_a_layer() {
    let sources = read_sources();
    let strangers: Vec<String> =
        sources.modules.iter().filter(|module| !module.is_empty() && layer(module).is_none()).map(file_name).collect();
    assert!(
        strangers.is_empty(),
        "kernel/core/src has files that no layer names (tests/tests/layers.rs): {strangers:?}"
    );
    assert!(sources.imports.len() > 1000, "only {} imports were found: the reader is broken", sources.imports.len());
}

#[test]
fn no_file_imports_a_layer_above_it() {
    let sources = read_sources();
    let mut used = BTreeSet::new();
    let mut faults = BTreeSet::new();
    for import in &sources.imports {
        if layer(&import.named) <= layer(&import.from) || import.from.is_empty() {
            continue;
        }
        match excepted(import) {
            Some(index) => {
                used.insert(index);
            }
            None => {
                faults.insert(format!("  {}.rs:{} imports {}", file_name(&import.from), import.line, import.path));
            }
        }
    }
    let mut report = String::new();
    for fault in &faults {
        let _ = writeln!(report, "{fault}");
    }
    for (index, (from, to, _)) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&index) {
            let _ = writeln!(report, "  the exception ({from}, {to}) is not needed any more: strike it out");
        }
    }
    assert!(report.is_empty(), "{} upward imports in kernel/core/src:\n{report}", faults.len());
}

/// Circles: strongly connected components of the files, without what is excepted.
#[test]
fn no_circle_of_imports_leaves_its_layer() {
    let sources = read_sources();
    let mut edges: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for import in &sources.imports {
        if excepted(import).is_none()
            && import.defined != import.from
            && !import.from.is_empty()
            && !import.defined.is_empty()
        {
            edges.entry(&import.from).or_default().insert(&import.defined);
        }
    }
    let reachable = |start: &Module| {
        let mut seen: BTreeSet<Module> = BTreeSet::new();
        let mut todo = vec![start.clone()];
        while let Some(module) = todo.pop() {
            for next in edges.get(&module).into_iter().flatten() {
                if seen.insert((*next).clone()) {
                    todo.push((*next).clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        sources.modules.iter().map(|module| (module, reachable(module))).collect();
    let mut report = BTreeSet::new();
    for module in &sources.modules {
        let circle: Vec<&Module> =
            reach[module].iter().filter(|other| reach.get(other).is_some_and(|back| back.contains(module))).collect();
        let layers: BTreeSet<usize> = circle.iter().filter_map(|module| layer(module)).collect();
        if layers.len() > 1 {
            let names: Vec<String> = circle.iter().map(|module| file_name(module)).collect();
            report.insert(format!("  {} files in layers {layers:?}: {names:?}", names.len()));
        }
    }
    let text: Vec<String> = report.into_iter().collect();
    assert!(text.is_empty(), "circles of imports over several layers of kernel/core/src:\n{}", text.join("\n"));
}
