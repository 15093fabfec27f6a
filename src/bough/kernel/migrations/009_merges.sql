-- The queue of merges into each branch, and what became of every one of them.
--
-- Guarantees: an entry is queued until it ended in exactly one way, and what it ended as is never
-- changed; before a branch moves, the commit that it will move to is written down with every entry
-- that this lands, so that whoever comes after a crash knows what has landed and merges it no
-- second time. Every entry and every end leaves an event.

create domain bough.merge_status as text constraint merge_status_is_known check (value in (
  'queued', 'merged', 'conflicted', 'refused', 'gate_failed', 'withdrawn'));
create domain bough.merge_strategy as text
  constraint merge_strategy_is_known check (value in ('merge', 'squash', 'rebase'));
create domain bough.gate_output as text
  constraint gate_output_fits check (octet_length(value) <= 32768);

create table bough.merges (
  id uuid constraint merges_pkey primary key, root_id uuid not null,
  agent_id uuid not null constraint agent_exists references bough.agents,
  place bigint generated always as identity,
  repo_path text not null, target_branch text not null,
  strategy bough.merge_strategy not null default 'merge',
  status bough.merge_status not null default 'queued',
  source_commit bough.object_id, previous_commit bough.object_id, merged_commit bough.object_id,
  conflicts text[] not null default '{}', reason text, gate_output bough.gate_output,
  resolver_id uuid,
  created_at timestamptz not null default bough.now(), ended_at timestamptz,
  constraint ended_exactly_when_dated check ((status = 'queued') = (ended_at is null)),
  constraint merged_names_commits check (status <> 'merged'
    or (source_commit is not null and merged_commit is not null)),
  constraint conflict_has_paths check (status <> 'conflicted' or conflicts[1] is not null),
  constraint refused_says_why check (status not in ('refused', 'gate_failed')
    or reason is not null),
  constraint plan_is_whole check ((previous_commit is null) = (merged_commit is null))
);
comment on table bough.merges is 'One row per wish to merge an agent''s work into a branch.';
comment on column bough.merges.place is 'The order in which a branch takes them.';
comment on column bough.merges.repo_path is 'With target_branch: which queue it is in.';
comment on column bough.merges.source_commit is 'What of the agent was merged, or was to be.';
comment on column bough.merges.previous_commit is
  'What the branch was before the move; merged_commit itself when it had the work already.';
comment on column bough.merges.merged_commit is
  'The commit that brought the work; while queued: the one that will, written before it moves.';
comment on column bough.merges.gate_output is 'The last bytes that the failing gate printed.';
comment on column bough.merges.resolver_id is 'Who was spawned to resolve the conflict; or null.';
create index merges_in_line on bough.merges (repo_path, target_branch, place)
  where status = 'queued';
create index merges_of_agent on bough.merges (agent_id, place);
create index merges_of_tree on bough.merges (root_id, place);
create index merges_of_resolver on bough.merges (resolver_id) where resolver_id is not null;

create function bough.record_merge_state() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'UPDATE' and old.status <> 'queued' then
    raise exception 'the merge of % has ended as %; queue a new one', left(old.agent_id::text, 8),
      old.status using errcode = 'TR003';
  end if;
  insert into bough.events (root_id, agent_id, name, data)
  values (new.root_id, new.agent_id, 'merge.' || new.status, jsonb_strip_nulls(
    jsonb_build_object('merge', new.id, 'into', new.target_branch, 'strategy', new.strategy,
      'commit', new.merged_commit, 'conflicts', nullif(cardinality(new.conflicts), 0),
      'reason', left(new.reason, 500))));
  perform bough.hint('bough_tree_' || new.root_id::text);
  return null;
end $$;
comment on function bough.record_merge_state() is
  'Writes the event of every merge that is queued or ends; an end is final.';
create trigger record_creation after insert on bough.merges
  for each row execute function bough.record_merge_state();
create trigger record_change after update of status on bough.merges
  for each row execute function bough.record_merge_state();
