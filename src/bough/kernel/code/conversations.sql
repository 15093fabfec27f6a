-- Conversations of agents with their models: appended entry by entry, read from any one on.
--
-- An entry and the mail that it took in are one transaction: a message is in the conversation and
-- acknowledged, or neither. The first entry of a number stands: a repeat gets it back. Whoever
-- appends holds the lease until it is done: a program that was taken over adds nothing more.
-- Refusals: TR001, TR005 (input), TR007 (stale), TR016 (no such message).

create function bough_api.append_conversation(
  agent_id uuid, epoch bigint, number integer, entry jsonb, acknowledged uuid[]
) returns table (recorded jsonb, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid;
begin
  -- Under this lock nobody else can claim the agent.
  perform from bough.agents a where a.id = append_conversation.agent_id for share;
  _root_id := bough_api._hold(append_conversation.agent_id, append_conversation.epoch);
  if octet_length(append_conversation.entry::text) > 1000000 then
    raise exception 'entry % of the conversation has % bytes, at most 1000000 fit', number,
      octet_length(append_conversation.entry::text) using errcode = 'TR005';
  elsif (append_conversation.number between 1 and 20000) is not true then
    raise exception 'a conversation has entries 1 to 20000, not %', number using errcode = 'TR005';
  elsif append_conversation.number > 1 and not exists (select from bough.conversations c
      where c.root_id = _root_id and c.agent_id = append_conversation.agent_id
        and c.number = append_conversation.number - 1) then
    raise exception 'entry % of the conversation comes after %, which is not there', number,
      number - 1 using errcode = 'TR005';
  end if;
  insert into bough.conversations (root_id, agent_id, number, entry)
  values (_root_id, append_conversation.agent_id, append_conversation.number,
    append_conversation.entry) on conflict do nothing;
  is_new := found;
  if is_new and cardinality(append_conversation.acknowledged) > 0 then
    perform bough_api.acknowledge(append_conversation.agent_id, append_conversation.epoch,
      append_conversation.acknowledged);
  end if;
  return query select c.entry::jsonb, is_new from bough.conversations c
    where c.root_id = _root_id and c.agent_id = append_conversation.agent_id
      and c.number = append_conversation.number;
end $$;
comment on function bough_api.append_conversation is
  'Adds an entry and is done with the mail that it took in; a repeat gives the first answer.';

create function bough_api.conversation(agent_id uuid, after_number integer, page integer)
returns table (number integer, entry jsonb, recorded_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query select c.number::integer, c.entry::jsonb, c.recorded_at
    from bough.conversations c
    join bough.agents a on a.root_id = c.root_id and a.id = c.agent_id
   where a.id = conversation.agent_id and c.number > conversation.after_number
   order by c.number limit conversation.page;
end $$;
comment on function bough_api.conversation is 'Entries of a conversation after a number, in order.';
