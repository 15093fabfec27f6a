-- Takes back 005_mailboxes.sql: offsets, waits, approvals and tokens; mail keeps its numbers.

drop index bough.attempts_by_token;
alter table bough.attempts drop column token_hash, drop column result, drop column error_message;
drop trigger unpark on bough.agents;
drop function bough.unpark();
drop table bough.approvals, bough.waits, bough.mail_heads, bough.mail_tails;
drop function bough.record_approval();
drop domain bough.approval_status;
drop trigger announcement on bough.messages;
drop trigger numbering on bough.messages;
drop function bough.announce_message(), bough.wake(uuid, text), bough.number_message(),
  bough.lane_size();
delete from bough.messages where recipient_id = '00000000-0000-0000-0000-000000000000';
drop index bough.messages_unanswered, bough.messages_of_thread;
alter table bough.messages
  drop constraint position_in_lane_is_unique,
  drop column thread_id, drop column reply_to, drop column reply_by, drop column answered_at,
  drop column expires_at, drop column actor,
  alter column payload type jsonb,
  add constraint payload_fits check (octet_length(payload::text) <= 10240),
  add constraint recipient_exists foreign key (recipient_id) references bough.agents,
  add constraint position_in_lane_is_unique unique (recipient_id, priority, seq);
drop domain bough.payload;
create index messages_of_tree on bough.messages (root_id, created_at);
comment on column bough.messages.recipient_id is null;
comment on column bough.messages.status is null;

create function bough.number_message() returns trigger
language plpgsql set search_path = '' as $$
declare
  _recipient record;
begin
  -- The lock is held to the commit: numbers follow commit order.
  select root_id, status into _recipient from bough.agents
   where id = new.recipient_id for no key update;
  if bough.has_ended(_recipient.status) then
    raise exception 'agent % has % and reads no more mail', left(new.recipient_id::text, 8),
      _recipient.status using errcode = 'TR002';
  end if;
  new.root_id := _recipient.root_id;
  new.seq := 1 + coalesce((select max(seq) from bough.messages
    where recipient_id = new.recipient_id and priority = new.priority), 0);
  return new;
end $$;
comment on function bough.number_message() is 'Numbers mail in commit order; refuses the ended.';
create trigger numbering before insert on bough.messages
  for each row execute function bough.number_message();

create or replace function bough.tell_budget(
  name text, account bough.budgets, more jsonb default '{}')
returns void language plpgsql set search_path = '' as $$
begin
  insert into bough.events (root_id, agent_id, name, data)
  values (account.root_id, account.agent_id, tell_budget.name, more || jsonb_strip_nulls(
    jsonb_build_object('allocated', account.allocated, 'used', account.used,
      'available', account.allocated - account.used - account.reserved,
      'overdraft', nullif(account.overdraft, 0), 'reason', account.frozen_reason)));
  perform bough.hint('bough_tree_' || account.root_id::text,
    'bough_budget_' || account.agent_id::text);
end $$;
