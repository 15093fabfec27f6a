-- Which agent changed which file, and how much disk its worktree takes.
--
-- Guarantees: an agent has at most 10,000 rows, all of its last save; how many files and lines it
-- really changed stands in workspaces. A path is text: as it is, or in git's quoted form when its
-- bytes are no text or would do harm on a terminal, so that no name can make a save fail.

create domain bough.file_number as integer
  constraint at_most_10000_files_an_agent check (value between 1 and 10000);
create domain bough.change_kind as text
  constraint kind_is_known check (value in ('created', 'modified', 'deleted', 'renamed'));
create domain bough.bytes as bigint constraint bytes_are_not_negative check (value >= 0);

alter table bough.workspaces add column disk_bytes bough.bytes;
comment on column bough.workspaces.disk_bytes is
  'Allocated by the worktree when it was last saved; 0: removed; null: never measured.';

create table bough.file_changes (
  root_id uuid not null,
  agent_id uuid not null constraint agent_exists references bough.agents,
  number bough.file_number not null,
  path text collate "C" not null, kind bough.change_kind not null, old_path text collate "C",
  lines_added integer, lines_removed integer,
  saved_at timestamptz not null default bough.now(),
  constraint file_changes_pkey primary key (agent_id, number),
  constraint renamed_exactly_when_it_had_another_name
    check ((kind = 'renamed') = (old_path is not null))
);
comment on table bough.file_changes is 'What an agent changed against its base, as last saved.';
comment on column bough.file_changes.number is 'Place in the order of paths, from 1.';
comment on column bough.file_changes.path is 'From the repository''s root; "…" is git''s quoting.';
comment on column bough.file_changes.lines_added is 'Null: no text.';

-- A path may be longer than an index takes: the beginning finds it, the rest is compared.
create index file_changes_of_tree on bough.file_changes (root_id, left(path, 200));
create index file_changes_of_path on bough.file_changes (left(path, 200));
create index file_changes_of_old_path on bough.file_changes (left(old_path, 200))
  where old_path is not null;
create index file_changes_newest on bough.file_changes (saved_at desc);
