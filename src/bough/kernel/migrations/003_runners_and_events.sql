-- Who runs the agents, what happened to them, what they printed, and who waits to hear of it.
--
-- Guarantees: every change of an agent, a budget or a workspace leaves an event, whoever made it;
-- limits are checked in the statement that makes a child; mail is numbered in commit order.
-- A hint (NOTIFY) is sent only when somebody listens and is never needed for correctness.

create table bough.runners (
  id uuid constraint runners_pkey primary key,
  host text not null, pid integer not null, boot_id text not null, process_start text not null,
  slots bough.positive not null, lease_s bough.positive not null,
  expires_at timestamptz not null, retired_at timestamptz,
  created_at timestamptz not null default bough.now()
);
comment on table bough.runners is 'One heart-beat row per runner process, for all its agents.';
comment on column bough.runners.expires_at is 'Past this time its agents may be claimed by others.';
comment on column bough.runners.process_start is 'Start time of the process, against reuse of pid.';
create index runners_alive on bough.runners (expires_at) where retired_at is null;

alter table bough.agents add constraint runner_exists
  foreign key (runner_id) references bough.runners;

create table bough.attempts (
  agent_id uuid not null constraint agent_exists references bough.agents,
  root_id uuid not null, lease_epoch bigint not null,
  runner_id uuid not null constraint runner_exists references bough.runners,
  pid integer, process_start text, boot_id text,
  claimed_at timestamptz not null default bough.now(), program_started_at timestamptz,
  constraint attempts_pkey primary key (agent_id, lease_epoch)
);
comment on table bough.attempts is 'One row per claim: who ran the agent, as which process.';
create index attempts_of_tree on bough.attempts (root_id);
create index attempts_of_runner on bough.attempts (runner_id);

create domain bough.event_name as text
  constraint name_is_noun_and_verb check (position('.' in value) > 1);
create table bough.events (
  id bigint generated always as identity constraint events_pkey primary key,
  transaction_id xid8 not null default pg_current_xact_id(),
  root_id uuid, agent_id uuid,
  name bough.event_name not null, data jsonb not null default '{}',
  actor text default current_setting('bough.actor', true),
  created_at timestamptz not null default bough.now()
);
comment on table bough.events is 'Append-only record of all that happened; written by triggers.';
comment on column bough.events.transaction_id is
  'Readers stop below the oldest running transaction, so that a tail misses nothing.';
comment on column bough.events.actor is 'Who did it, as the connection said in bough.actor.';
create index events_tail on bough.events (transaction_id, id);
create index events_of_tree on bough.events (root_id, transaction_id, id);

create table bough.log_tails (
  agent_id uuid constraint log_tails_pkey primary key
    constraint agent_exists references bough.agents,
  root_id uuid not null,
  last_seq bigint not null default 0, kept_bytes bigint not null default 0,
  dropped_bytes bigint not null default 0
);
comment on table bough.log_tails is 'How much output of an agent is kept, how much was dropped.';
create index log_tails_of_tree on bough.log_tails (root_id);

create table bough.logs (
  agent_id uuid not null constraint agent_exists references bough.agents,
  root_id uuid not null, seq bigint not null, stream text not null, content text not null,
  created_at timestamptz not null default bough.now(),
  constraint logs_pkey primary key (agent_id, seq),
  constraint stream_is_known check (stream in ('stdout', 'stderr', 'bough'))
);
comment on table bough.logs is 'What programs printed, in order, bounded per agent.';
comment on column bough.logs.stream is 'stdout, stderr, or bough for our own remarks.';
create index logs_of_tree on bough.logs (root_id);

create unlogged table bough.listeners (
  channel text not null, listener text not null, expires_at timestamptz not null,
  constraint listeners_pkey primary key (channel, listener)
);
comment on table bough.listeners is 'Who waits for hints on which channel; lost in a crash.';

create function bough.hint(variadic channels text[]) returns void
language plpgsql set search_path = '' as $$
begin
  -- NOTIFY makes commits queue up behind each other, so it is sent only when somebody waits.
  perform pg_catalog.pg_notify(l.channel, '') from bough.listeners l
    where l.channel = any (channels) and l.expires_at > bough.now();
end $$;
comment on function bough.hint(text[]) is 'Wakes listeners of these channels at commit, if any.';

create function bough.refuse_change() returns trigger language plpgsql set search_path = '' as $$
begin
  raise exception 'events are append-only' using errcode = 'TR003';
end $$;
comment on function bough.refuse_change() is 'Keeps the record of events append-only.';
create trigger append_only before update or delete on bough.events
  for each statement execute function bough.refuse_change();

create function bough.record_agent() returns trigger language plpgsql set search_path = '' as $$
declare
  _name text;
begin
  if tg_op = 'INSERT' then
    insert into bough.events (root_id, agent_id, name, data)
    values (new.root_id, new.id, 'agent.created', jsonb_build_object(
      'parent_id', new.parent_id, 'role', new.role, 'depth_level', new.depth_level));
    perform bough.hint('bough_tree_' || new.root_id::text,
      coalesce('bough_runner_' || new.runner_id::text, 'bough_queue'));
    return null;
  end if;
  _name := case
    when new.status = 'running' and old.status = 'created' then 'agent.started'
    when new.status = 'running' and old.status = 'running' then 'agent.reclaimed'
    when new.status in ('created', 'running') then 'agent.resumed'
    else 'agent.' || new.status end;
  insert into bough.events (root_id, agent_id, name, data)
  values (new.root_id, new.id, _name, jsonb_strip_nulls(jsonb_build_object(
    'reason', new.status_reason, 'epoch', new.lease_epoch, 'code', new.error_code,
    'runner_id', new.runner_id)));
  -- The runner hears what others did to its agent; the line moves when a place comes free.
  perform bough.hint('bough_tree_' || new.root_id::text, 'bough_runner_' || new.runner_id::text,
    case when new.status = 'created' or (new.under_running_limit and new.status <> 'running')
      then 'bough_queue' end);
  return null;
end $$;
comment on function bough.record_agent() is 'Writes the event of every change of state.';
create trigger record_creation after insert on bough.agents
  for each row execute function bough.record_agent();
create trigger record_change after update on bough.agents
  for each row when (old.status <> new.status or old.lease_epoch <> new.lease_epoch)
  execute function bough.record_agent();

create function bough.record_budget() returns trigger language plpgsql set search_path = '' as $$
begin
  insert into bough.events (root_id, agent_id, name, data)
  values (new.root_id, new.agent_id,
    case when tg_op = 'INSERT' then 'budget.allocated'
         when new.reclaimed_at is not null then 'budget.reclaimed'
         else 'budget.changed' end,
    jsonb_build_object('allocated', new.allocated, 'used', new.used,
      'available', new.allocated - new.used - new.reserved));
  return null;
end $$;
comment on function bough.record_budget() is 'Writes the event of every allocation and reclaim.';
create trigger record_creation after insert on bough.budgets
  for each row execute function bough.record_budget();
create trigger record_change after update on bough.budgets
  for each row when (old.allocated <> new.allocated
    or (old.reclaimed_at is null and new.reclaimed_at is not null))
  execute function bough.record_budget();

create function bough.record_workspace() returns trigger
language plpgsql set search_path = '' as $$
begin
  insert into bough.events (root_id, agent_id, name, data)
  values (new.root_id, new.agent_id, 'workspace.' || new.isolation_status,
    jsonb_strip_nulls(jsonb_build_object('branch', new.branch_name, 'head', new.head_commit,
      'into', new.merged_into, 'commit', new.merged_commit, 'conflicts', new.conflicts)));
  perform bough.hint('bough_tree_' || new.root_id::text);
  return null;
end $$;
comment on function bough.record_workspace() is 'Writes the event of every step of a workspace.';
create trigger record_change after update on bough.workspaces
  for each row when (old.isolation_status <> new.isolation_status
    or old.head_commit is distinct from new.head_commit
    or old.merged_commit is distinct from new.merged_commit)
  execute function bough.record_workspace();
