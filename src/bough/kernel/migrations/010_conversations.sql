-- Conversations of agents with their models, one row a message, and the code of an agent's failure.
--
-- Guarantees: a conversation only grows, and without gaps; nothing that was said is changed or
-- taken away, so a program that starts again goes on from what is here. An entry is JSON of at most
-- 1 MB, a conversation has at most 20,000 entries.

create domain bough.entry as jsonb
  constraint entry_fits check (octet_length(value::text) <= 1000000);
create domain bough.entry_number as integer
  constraint conversation_has_at_most_20000_entries check (value between 1 and 20000);
create table bough.conversations (
  root_id uuid not null,
  agent_id uuid not null constraint agent_exists references bough.agents,
  number bough.entry_number not null, entry bough.entry not null,
  recorded_at timestamptz not null default bough.now(),
  constraint conversations_pkey primary key (root_id, agent_id, number)
);
comment on table bough.conversations is 'What agents and their models have said to each other.';
comment on column bough.conversations.number is 'Counted from 1 on, without gaps.';
comment on column bough.conversations.entry is
  'A message in the shape of its version: {"v": 1, "from": bough, model or tool, …}.';

create function bough.refuse_rewriting() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'what was said in a conversation stays; append to it' using errcode = 'TR003';
end $$;
comment on function bough.refuse_rewriting is 'Keeps conversations append-only.';
create trigger append_only before update or delete on bough.conversations
  for each statement execute function bough.refuse_rewriting();

alter table bough.attempts add column error_code bough.label;
comment on column bough.attempts.error_code is
  'Which kind of failure the program said it was; null: agent_failed.';
