-- The core of Bough: agents in trees, what they may spend, say, edit and come back to.
--
-- Guarantees, for every writer including a hand-written statement: an agent knows its root and
-- depth, follows only legal transitions, never lives under an ended parent, and spends at most
-- what its parent could give. A child's allocation is reserved from its parent in the statement
-- that makes it; when the agent ends, the allocation goes back and its use moves up.
-- A broken rule aborts the statement with one SQLSTATE of class TR, or the name of a constraint.
--
-- Lock order, everywhere: agents top-down, then budgets bottom-up.

create schema bough;
comment on schema bough is 'Tables and the rules that live with them; programs call bough_api.';

create function bough.now() returns timestamptz language sql stable as $$
  -- The time of the statement, or what a test set. Without a set clause PostgreSQL inlines it.
  select coalesce(nullif(pg_catalog.current_setting('bough.clock', true), '')::timestamptz,
                  pg_catalog.statement_timestamp())
$$;
comment on function bough.now() is 'The time, settable per session with the setting bough.clock.';

create function bough.has_ended(status text) returns boolean language sql immutable as $$
  select status in ('completed', 'failed', 'terminated')
$$;
comment on function bough.has_ended(text) is 'True for a status that no agent ever leaves.';

-- A rule on one column is a domain: prepared once a session, a table's CHECK at every statement.
create domain bough.tokens as bigint constraint tokens_are_not_negative check (value >= 0);
create domain bough.allocation as bigint constraint allocated_is_positive check (value > 0);
create domain bough.positive as integer constraint number_is_positive check (value > 0);
create domain bough.fraction as real constraint fraction_is_0_to_1 check (value between 0 and 1);
create domain bough.label as text
  constraint label_is_not_blank check (btrim(value, E' \t\r\n') <> '' and length(value) <= 200);
create domain bough.task as text
  constraint task_is_not_blank check (btrim(value, E' \t\r\n') <> '')
  constraint task_fits check (octet_length(value) <= 100000);
create domain bough.object_id as text
  constraint object_id_is_hexadecimal check (value ~ '^[0-9a-f]{40}([0-9a-f]{24})?$');
create domain bough.status as text constraint status_is_known check (value in (
  'created', 'running', 'waiting', 'paused', 'completed', 'failed', 'terminated'));
create domain bough.priority as text
  constraint priority_is_known check (value in ('critical', 'high', 'normal', 'low'));
create domain bough.delivery as text constraint delivery_is_known check (
  value in ('queued', 'delivered', 'acknowledged', 'dead', 'expired'));
create domain bough.isolation as text constraint isolation_is_known check (value in (
  'pending', 'active', 'saved', 'merged', 'conflicted', 'failed', 'removed'));

create table bough.schema_migrations (
  version bough.positive not null constraint schema_migrations_pkey primary key,
  name text not null, checksum text not null, applied_at timestamptz not null default now()
);
comment on table bough.schema_migrations is 'Migrations applied here; a changed file is refused.';

create table bough.agents (
  id uuid not null default gen_random_uuid() constraint agents_pkey primary key,
  root_id uuid not null, parent_id uuid constraint parent_exists references bough.agents,
  depth_level integer not null default 0,
  role bough.label not null default 'agent', task bough.task not null,
  driver bough.label not null default 'command', program jsonb not null default '{}',
  status bough.status not null default 'created', status_reason text,
  status_at timestamptz not null default bough.now(), paused_from bough.status,
  runner_id uuid, lease_epoch bigint not null default 0,
  timeout_s bough.positive, progress bough.fraction, progress_note text,
  result jsonb, error_code text, error_message text,
  created_at timestamptz not null default bough.now(), started_at timestamptz,
  completed_at timestamptz, updated_at timestamptz not null default bough.now(),
  constraint root_is_its_own_tree_at_depth_0 check (
    (parent_id is null) = (id = root_id) and (parent_id is null) = (depth_level = 0)),
  constraint paused_from_only_while_paused check ((status = 'paused') = (paused_from is not null)),
  constraint ended_exactly_when_dated check (
    (status in ('completed', 'failed', 'terminated')) = (completed_at is not null)),
  constraint running_belongs_to_a_runner check (status <> 'running' or runner_id is not null),
  constraint failed_says_why check (status <> 'failed' or error_code is not null),
  constraint result_only_when_ended check (result is null or completed_at is not null)
);
comment on table bough.agents is 'One row per agent, for ever: its place, its work, its state.';
comment on column bough.agents.root_id is 'The tree; set by trigger, never changes.';
comment on column bough.agents.program is 'What the driver runs, e.g. {"argv": ["make", "test"]}.';
comment on column bough.agents.paused_from is 'The status that resume goes back to.';
comment on column bough.agents.runner_id is 'Whose it is; while created: whom it is kept for.';
comment on column bough.agents.lease_epoch is 'Counts claims; a call with an older one is stale.';
comment on column bough.agents.timeout_s is 'Seconds from started_at to the deadline; null: none.';
comment on column bough.agents.progress is 'Fraction done, 0 to 1, as the agent reports it.';

create index agents_of_tree on bough.agents (root_id, created_at);
create index agents_of_parent on bough.agents (parent_id) where parent_id is not null;
create index agents_in_line on bough.agents (created_at, id) where status = 'created';
create index agents_of_runner on bough.agents (runner_id, id)
  where status in ('running', 'paused', 'waiting');
create index agents_newest on bough.agents (created_at desc);

create table bough.hierarchies (
  root_id uuid not null,
  parent_id uuid not null constraint ancestor_exists references bough.agents,
  child_id uuid not null constraint descendant_exists references bough.agents,
  distance integer not null,
  constraint hierarchies_pkey primary key (root_id, parent_id, child_id),
  constraint one_ancestor_at_each_distance unique (root_id, child_id, distance),
  constraint ancestor_is_above check (distance > 0 and parent_id <> child_id)
);
comment on table bough.hierarchies is 'The closure: a row per ancestor and descendant, by trigger.';
comment on column bough.hierarchies.parent_id is 'Any ancestor, not only the direct parent.';
comment on column bough.hierarchies.distance is 'Levels between the two; 1 is parent and child.';

create table bough.budgets (
  agent_id uuid constraint budgets_pkey primary key
    constraint agent_exists references bough.agents,
  root_id uuid not null,
  allocated bough.allocation not null, used bough.tokens not null default 0,
  reserved bough.tokens not null default 0,
  available bigint generated always as (allocated - used - reserved) stored,
  reclaimed_at timestamptz, created_at timestamptz not null default bough.now(),
  updated_at timestamptz not null default bough.now(),
  constraint used_and_reserved_within_allocated check (used <= allocated - reserved),
  constraint reclaimed_budget_reserves_nothing check (reclaimed_at is null or reserved = 0)
);
comment on table bough.budgets is 'One agent''s account, in tokens.';
comment on column bough.budgets.used is 'Spent here and by descendants that have ended.';
comment on column bough.budgets.reserved is 'Allocations of living children and open calls.';
comment on column bough.budgets.available is 'Free; once reclaimed_at is set: handed back.';
comment on column bough.budgets.reclaimed_at is 'When the rest went back to the parent.';
create index budgets_of_tree on bough.budgets (root_id);

create table bough.messages (
  id uuid not null default gen_random_uuid() constraint messages_pkey primary key,
  root_id uuid not null,
  recipient_id uuid not null constraint recipient_exists references bough.agents,
  sender_id uuid constraint sender_exists references bough.agents,
  priority bough.priority not null default 'normal', seq bigint not null,
  status bough.delivery not null default 'queued', type bough.label not null default 'message',
  payload jsonb not null, created_at timestamptz not null default bough.now(),
  updated_at timestamptz not null default bough.now(),
  constraint position_in_lane_is_unique unique (recipient_id, priority, seq),
  constraint seq_is_positive check (seq > 0),
  constraint payload_fits check (octet_length(payload::text) <= 10240)
);
comment on table bough.messages is 'Mail, numbered per recipient and lane in commit order.';
comment on column bough.messages.sender_id is 'Null: the system or the operator.';
comment on column bough.messages.seq is 'Place in the lane, from 1, in commit order.';
create index messages_of_tree on bough.messages (root_id, created_at);
create index messages_of_sender on bough.messages (sender_id) where sender_id is not null;

create table bough.workspaces (
  agent_id uuid constraint workspaces_pkey primary key
    constraint agent_exists references bough.agents,
  root_id uuid not null, repo_path text not null, base_commit bough.object_id not null,
  target_branch text, worktree_path text, branch_name text, head_commit bough.object_id,
  isolation_status bough.isolation not null default 'pending',
  files_changed integer, lines_added integer, lines_removed integer,
  merged_into text, merged_commit text, conflicts text[],
  created_at timestamptz not null default bough.now(),
  updated_at timestamptz not null default bough.now(),
  constraint made_workspace_has_a_place check (isolation_status in ('pending', 'failed')
    or (worktree_path is not null and branch_name is not null)),
  constraint merged_names_commit check (isolation_status <> 'merged' or merged_commit is not null),
  constraint conflict_has_paths check (isolation_status <> 'conflicted' or conflicts[1] is not null)
);
comment on table bough.workspaces is 'The git worktree of one agent.';
comment on column bough.workspaces.repo_path is 'The repository, as the runner''s machine sees it.';
comment on column bough.workspaces.base_commit is 'What the agent starts from and is compared to.';
comment on column bough.workspaces.target_branch is 'Where merge goes unless told otherwise.';
comment on column bough.workspaces.isolation_status is
  'pending: not made; active: in use; saved: all committed; removed: the branch stays.';
create index workspaces_of_tree on bough.workspaces (root_id);
create unique index one_agent_per_worktree on bough.workspaces (worktree_path)
  where worktree_path is not null and isolation_status <> 'removed';

create table bough.checkpoints (
  agent_id uuid not null constraint agent_exists references bough.agents,
  root_id uuid not null, number bough.positive not null, lease_epoch bigint not null,
  state_snapshot jsonb not null, resume_capability text not null default 'full',
  workspace_commit text, created_at timestamptz not null default bough.now(),
  constraint checkpoints_pkey primary key (agent_id, number),
  constraint resume_capability_is_known check (resume_capability in ('full', 'partial', 'none'))
);
comment on table bough.checkpoints is 'Points that an agent can be restored to or forked from.';
comment on column bough.checkpoints.state_snapshot is 'Position in the conversation, mail, budget.';
comment on column bough.checkpoints.resume_capability is 'full, partial (files only) or none.';
create index checkpoints_of_tree on bough.checkpoints (root_id, created_at);

create function bough.touch() returns trigger language plpgsql set search_path = '' as $$
begin
  new.updated_at := bough.now();
  return new;
end $$;
comment on function bough.touch() is 'Keeps updated_at true, whoever writes the row.';

create function bough.take_place() returns trigger language plpgsql set search_path = '' as $$
declare
  _parent record;
begin
  -- Locking the parent makes its end and a new child exclude each other.
  new.root_id := new.id;
  new.depth_level := 0;
  if new.parent_id is not null then
    select root_id, depth_level, status into _parent
      from bough.agents where id = new.parent_id for no key update;
    if not found then
      raise exception 'no agent % to be the parent', new.parent_id using errcode = 'TR001';
    elsif bough.has_ended(_parent.status) then
      raise exception 'the parent % has % and cannot spawn; spawn under a living agent',
        left(new.parent_id::text, 8), _parent.status using errcode = 'TR002';
    end if;
    new.root_id := _parent.root_id;
    new.depth_level := _parent.depth_level + 1;
  end if;
  if new.status <> 'created' then
    raise exception 'an agent starts as created, not %', new.status using errcode = 'TR003';
  end if;
  return new;
end $$;
comment on function bough.take_place() is 'Gives a new agent its root and depth.';

create function bough.extend_closure() returns trigger language plpgsql set search_path = '' as $$
begin
  insert into bough.hierarchies (root_id, parent_id, child_id, distance)
  select new.root_id, h.parent_id, new.id, h.distance + 1 from bough.hierarchies h
   where h.root_id = new.root_id and h.child_id = new.parent_id
  union all select new.root_id, new.parent_id, new.id, 1;
  return null;
end $$;
comment on function bough.extend_closure() is 'Links a new child to every ancestor.';

create function bough.change_status() returns trigger language plpgsql set search_path = '' as $$
begin
  if (new.id, new.root_id, new.depth_level) <> (old.id, old.root_id, old.depth_level)
     or new.parent_id is distinct from old.parent_id then
    raise exception 'an agent never changes its place in the tree' using errcode = 'TR003';
  elsif new.status = old.status and new.paused_from is not distinct from old.paused_from then
    return new;
  elsif not (case old.status
      when 'created' then new.status in ('running', 'paused', 'terminated')
      when 'paused' then new.status in (old.paused_from, 'failed', 'terminated')
      when 'running' then new.status not in ('created', 'running')
      when 'waiting' then new.status not in ('created', 'waiting')
      else false end) then
    raise exception 'agent % is % and cannot become %', left(old.id::text, 8), old.status,
      new.status using errcode = 'TR003';
  elsif bough.has_ended(new.status) and exists (
      select from bough.agents c where c.parent_id = new.id and c.completed_at is null) then
    raise exception 'agent % has living children; terminate ends a subtree', left(old.id::text, 8)
      using errcode = 'TR003';
  end if;
  new.status_at := bough.now();
  new.paused_from := case when new.status = 'paused' then old.status end;
  new.started_at := coalesce(new.started_at, case when new.status = 'running' then bough.now() end);
  new.completed_at := case when bough.has_ended(new.status) then bough.now() end;
  return new;
end $$;
comment on function bough.change_status() is 'Lets only legal transitions pass, and dates them.';

create function bough.allocate() returns trigger language plpgsql set search_path = '' as $$
declare
  _parent_id uuid;
  _more bigint := new.allocated - case when tg_op = 'UPDATE' then old.allocated else 0 end;
begin
  select parent_id, root_id into _parent_id, new.root_id
    from bough.agents where id = new.agent_id;
  if new.reclaimed_at is not null then
    raise exception 'agent % has ended; its budget is closed', left(new.agent_id::text, 8)
      using errcode = 'TR002';
  elsif _parent_id is not null then
    update bough.budgets set reserved = reserved + _more
     where agent_id = _parent_id and allocated - used - reserved >= _more;
    if not found then
      raise exception 'budget: % tokens required, % available from %; ask for less or top it up',
        _more, (select available from bough.budgets where agent_id = _parent_id),
        left(_parent_id::text, 8) using errcode = 'TR004';
    end if;
  end if;
  return new;
end $$;
comment on function bough.allocate() is 'Reserves an allocation, or its change, from the parent.';

create function bough.reclaim() returns trigger language plpgsql set search_path = '' as $$
declare
  _ended record;
begin
  update bough.budgets set reclaimed_at = bough.now()
   where agent_id = new.id and reclaimed_at is null returning allocated, used into _ended;
  if found and new.parent_id is not null then
    update bough.budgets set reserved = reserved - _ended.allocated, used = used + _ended.used
     where agent_id = new.parent_id;
  end if;
  return null;
end $$;
comment on function bough.reclaim() is 'Hands an ended agent''s rest back and its use up.';

create trigger place before insert on bough.agents for each row execute function bough.take_place();
create trigger closure after insert on bough.agents
  for each row when (new.parent_id is not null) execute function bough.extend_closure();
create trigger transition before update on bough.agents
  for each row execute function bough.change_status();
create trigger reclaim after update of status on bough.agents
  for each row when (new.completed_at is not null) execute function bough.reclaim();
create trigger allocation before insert or update of allocated on bough.budgets
  for each row execute function bough.allocate();
create trigger touch before update on bough.agents for each row execute function bough.touch();
create trigger touch before update on bough.budgets for each row execute function bough.touch();
create trigger touch before update on bough.messages for each row execute function bough.touch();
create trigger touch before update on bough.workspaces for each row execute function bough.touch();
