-- Mail as logs with offsets, waiting without a process, approvals, and the tokens of programs.
--
-- Guarantees: mail for one recipient is numbered per lane in commit order, under the lock of the
-- lane's tail; a lane is bounded, and a full one refuses. Message rows never change but for what
-- the kernel itself decides (dead, expired, answered): what was received and acknowledged is in the
-- heads, which only the receiver moves. Mail for an agent that has ended is refused.
--
-- Lock order: agents, budgets, approvals, requests, the advisory lock and the tail of a recipient,
-- recipients by id, heads by lane, then waits by id.

-- A rule on one column is a domain: prepared once a session, a table's CHECK at every statement.
create domain bough.payload as jsonb
  constraint payload_fits check (octet_length(value::text) <= 10240);

drop trigger numbering on bough.messages;
drop function bough.number_message();
drop index bough.messages_of_tree;
alter table bough.messages
  drop constraint payload_fits, alter column payload type bough.payload,
  drop constraint recipient_exists, drop constraint position_in_lane_is_unique,
  add column thread_id uuid, add column reply_to uuid, add column reply_by timestamptz,
  add column answered_at timestamptz, add column expires_at timestamptz,
  add column actor text default current_setting('bough.actor', true),
  add constraint position_in_lane_is_unique unique (root_id, recipient_id, priority, seq);
comment on column bough.messages.recipient_id is
  'An agent, or the operator of this tree: all zeros.';
comment on column bough.messages.status is
  'queued, unless the kernel took it out: dead or expired. What is read is in mail_heads.';
comment on column bough.messages.thread_id is 'The first message of the conversation.';
comment on column bough.messages.reply_to is 'The message that this one answers.';
comment on column bough.messages.reply_by is 'A request: past this time its sender is told.';
comment on column bough.messages.expires_at is 'Past this time it is not delivered any more.';
create index messages_unanswered on bough.messages (reply_by)
  where reply_by is not null and answered_at is null;
create index messages_of_thread on bough.messages (thread_id) where thread_id is not null;

create table bough.mail_tails (
  root_id uuid not null, recipient_id uuid not null, priority bough.priority not null,
  last_seq bigint not null,
  constraint mail_tails_pkey primary key (root_id, recipient_id, priority)
) with (fillfactor = 50);
comment on table bough.mail_tails is 'The newest number of each lane; its lock orders senders.';

create table bough.mail_heads (
  root_id uuid not null, recipient_id uuid not null, priority bough.priority not null,
  acknowledged_seq bigint not null default 0, received_seq bigint not null default 0,
  ahead bigint[] not null default '{}', lease_epoch bigint not null default 0,
  deliveries integer not null default 0,
  constraint mail_heads_pkey primary key (root_id, recipient_id, priority),
  constraint acknowledged_before_received check (acknowledged_seq <= received_seq)
) with (fillfactor = 50);
comment on table bough.mail_heads is 'How far the receiver of a lane is; only it moves them.';
comment on column bough.mail_heads.acknowledged_seq is 'All up to here is done with.';
comment on column bough.mail_heads.ahead is 'Acknowledged above acknowledged_seq, out of order.';
comment on column bough.mail_heads.lease_epoch is 'Under which lease received_seq was moved.';
comment on column bough.mail_heads.deliveries is 'Leases that were given the oldest one in vain.';

create function bough.lane_size() returns bigint language sql immutable as $$
  select 10000::bigint
$$;
comment on function bough.lane_size() is 'Messages that a lane holds before it refuses more.';

create function bough.number_message() returns trigger
language plpgsql set search_path = '' as $$
declare
  _operator constant uuid := '00000000-0000-0000-0000-000000000000'::uuid;
  _most constant bigint := bough.lane_size();
  _recipient record;
  _open bigint;
begin
  -- Who parks holds this lock alone: it sees this message, or this message sees it waiting.
  perform pg_catalog.pg_advisory_xact_lock_shared(
    pg_catalog.hashtextextended(new.recipient_id::text, 4));
  if new.recipient_id = _operator then
    new.root_id := coalesce((select root_id from bough.agents where id = new.sender_id),
      new.root_id);
  else
    select root_id, status into _recipient from bough.agents where id = new.recipient_id;
    if not found then
      raise exception 'no agent %; see bough ps --all', left(new.recipient_id::text, 8)
        using errcode = 'TR001';
    elsif bough.has_ended(_recipient.status) then
      raise exception 'agent % has % and reads no more mail', left(new.recipient_id::text, 8),
        _recipient.status using errcode = 'TR002';
    end if;
    new.root_id := _recipient.root_id;
  end if;
  insert into bough.mail_tails as t (root_id, recipient_id, priority, last_seq)
  values (new.root_id, new.recipient_id, new.priority, 1)
  on conflict (root_id, recipient_id, priority) do update set last_seq = t.last_seq + 1
  returning t.last_seq, t.last_seq - coalesce((select h.acknowledged_seq
    from bough.mail_heads h where h.root_id = t.root_id
     and h.recipient_id = t.recipient_id and h.priority = t.priority), 0)
    into new.seq, _open;
  -- What the kernel itself has to say always fits.
  if _open > _most and (new.sender_id is not null or new.type = 'message') then
    raise exception 'the mailbox of % is full: % messages in lane %, % allowed; try again later',
      left(new.recipient_id::text, 8), _open - 1, new.priority, _most using errcode = 'TR015';
  end if;
  return new;
end $$;
comment on function bough.number_message() is
  'Numbers mail in commit order; refuses the ended and what does not fit.';
create trigger numbering before insert on bough.messages
  for each row when (new.seq is null) execute function bough.number_message();

-- An agent is told when most of its tokens are used, and when it has overdrawn.
create or replace function bough.tell_budget(
  name text, account bough.budgets, more jsonb default '{}')
returns void language plpgsql set search_path = '' as $$
begin
  insert into bough.events (root_id, agent_id, name, data)
  values (account.root_id, account.agent_id, tell_budget.name, more || jsonb_strip_nulls(
    jsonb_build_object('allocated', account.allocated, 'used', account.used,
      'available', account.allocated - account.used - account.reserved,
      'overdraft', nullif(account.overdraft, 0), 'reason', account.frozen_reason)));
  -- While the account's lock is held its agent cannot end, so the message is never refused. Not
  -- from inside an end, which goes on to other accounts: its parent gets a message of its own.
  if tell_budget.name in ('budget.warned', 'budget.overdrawn') and account.reclaimed_at is null
      and pg_catalog.pg_trigger_depth() = 1 then
    insert into bough.messages (recipient_id, type, priority, payload)
    values (account.agent_id, tell_budget.name, 'high', jsonb_build_object(
      'allocated', account.allocated, 'used', account.used,
      'available', account.allocated - account.used - account.reserved));
  end if;
  perform bough.hint('bough_tree_' || account.root_id::text,
    'bough_budget_' || account.agent_id::text);
end $$;

create table bough.waits (
  agent_id uuid constraint waits_pkey primary key
    constraint agent_exists references bough.agents,
  root_id uuid not null, for_messages boolean not null default false,
  for_children text, children uuid[] not null default '{}', for_tokens bough.tokens,
  for_approval uuid, until timestamptz,
  parked_at timestamptz not null default bough.now(), woken_at timestamptz, woken_by text,
  constraint children_are_awaited_any_or_all check (for_children in ('any', 'all')),
  constraint woken_says_by_what check ((woken_at is null) = (woken_by is null)),
  constraint wait_has_an_end check (for_messages or for_children is not null
    or for_tokens is not null or for_approval is not null or until is not null)
);
comment on table bough.waits is 'What a parked agent waits for; gone when a runner has it again.';
comment on column bough.waits.children is 'Which children; none named: all that live.';
comment on column bough.waits.for_tokens is 'Wakes when so many tokens are available.';
comment on column bough.waits.for_approval is 'Wakes when this approval is decided or expires.';
create index waits_of_tree on bough.waits (root_id);
create index waits_woken on bough.waits (woken_at) where woken_at is not null;
create index waits_until on bough.waits (until) where until is not null and woken_at is null;

create index waits_for_more on bough.waits (agent_id)
  where for_tokens is not null or for_approval is not null;

create function bough.unpark() returns trigger language plpgsql set search_path = '' as $$
begin
  delete from bough.waits where agent_id = new.id;
  return null;
end $$;
comment on function bough.unpark() is 'An agent that has ended waits no more.';
create trigger unpark after update of status on bough.agents
  for each row when (new.completed_at is not null) execute function bough.unpark();

create function bough.wake(agent_id uuid, by text) returns void
language plpgsql set search_path = '' as $$
#variable_conflict use_column
begin
  update bough.waits w set woken_at = bough.now(), woken_by = wake.by
   where w.agent_id = wake.agent_id and w.woken_at is null;
  if found then
    perform bough.hint('bough_queue', (select 'bough_runner_' || a.runner_id::text
      from bough.agents a where a.id = wake.agent_id));
  end if;
end $$;
comment on function bough.wake(uuid, text) is 'Lets a runner have a parked agent, once.';

create function bough.announce_message() returns trigger
language plpgsql set search_path = '' as $$
begin
  -- By id, as the mailboxes before, so that nobody waits in a circle.
  perform bough.wake(w.agent_id, 'message') from bough.waits w
    where w.for_messages and w.woken_at is null
      and w.agent_id in (select s.recipient_id from sent s) order by w.agent_id;
  perform bough.hint('bough_mail_' || s.recipient_id::text, case when s.recipient_id
    = '00000000-0000-0000-0000-000000000000' then 'bough_operator' end)
    from (select distinct recipient_id from sent) s;
  return null;
end $$;
comment on function bough.announce_message() is 'Wakes a recipient that waits for mail.';
create trigger announcement after insert on bough.messages
  referencing new table as sent for each statement execute function bough.announce_message();

create domain bough.approval_status as text constraint approval_status_is_known
  check (value in ('pending', 'approved', 'rejected'));
create table bough.approvals (
  id uuid constraint approvals_pkey primary key, root_id uuid not null,
  agent_id uuid not null constraint agent_exists references bough.agents,
  question text not null, status bough.approval_status not null default 'pending',
  on_expiry bough.approval_status not null default 'rejected',
  answer text, decided_by text, decided_at timestamptz,
  created_at timestamptz not null default bough.now(), expires_at timestamptz not null,
  constraint decided_exactly_when_dated check ((status = 'pending') = (decided_at is null)),
  constraint expiry_decides check (on_expiry <> 'pending'),
  constraint question_fits check (btrim(question, E' \t\r\n') <> '' and
    octet_length(question) <= 10240)
);
comment on table bough.approvals is 'What agents ask a person to allow.';
comment on column bough.approvals.on_expiry is 'What it becomes when nobody answers in time.';
comment on column bough.approvals.decided_by is 'A person, or expiry.';
create index approvals_of_tree on bough.approvals (root_id, created_at);
create index approvals_of_agent on bough.approvals (agent_id);
create index approvals_pending on bough.approvals (expires_at) where status = 'pending';

create function bough.record_approval() returns trigger
language plpgsql set search_path = '' as $$
begin
  insert into bough.events (root_id, agent_id, name, data)
  values (new.root_id, new.agent_id, case when tg_op = 'INSERT' then 'approval.requested'
    else 'approval.' || new.status end, jsonb_strip_nulls(jsonb_build_object('approval', new.id,
    'question', left(new.question, 200), 'answer', new.answer, 'by', new.decided_by)));
  perform bough.hint('bough_tree_' || new.root_id::text, 'bough_operator');
  return null;
end $$;
comment on function bough.record_approval() is 'Writes the event of every approval.';
create trigger record_creation after insert on bough.approvals
  for each row execute function bough.record_approval();
create trigger record_change after update of status on bough.approvals
  for each row execute function bough.record_approval();

alter table bough.attempts add column token_hash bytea, add column result jsonb,
  add column error_message text;
comment on column bough.attempts.token_hash is 'SHA-256 of the token that its program was given.';
comment on column bough.attempts.result is 'What the program said its result is.';
comment on column bough.attempts.error_message is 'What the program said made it fail.';
create unique index attempts_by_token on bough.attempts (token_hash)
  where token_hash is not null;
