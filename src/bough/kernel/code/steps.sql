-- Steps of durable functions: recorded once, read when the function starts again.
--
-- The first result of a step stands: a repeat, also one of two starts that overlap, gets it back
-- and goes on with it. Another word or name at a number that is taken means that the function has
-- changed, and is refused. Refusals: TR001, TR005 (input), TR007 (stale).

create function bough_api.record_step(
  agent_id uuid, epoch bigint, number integer, word text, name text, result jsonb
) returns table (recorded jsonb, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(record_step.agent_id, record_step.epoch);
begin
  if octet_length(record_step.result::text) > 1000000 then
    raise exception 'the result of step % has % bytes, at most 1000000 fit; commit it as a file',
      number, octet_length(record_step.result::text) using errcode = 'TR005';
  end if;
  insert into bough.steps (root_id, agent_id, number, word, name, result)
  values (_root_id, record_step.agent_id, record_step.number, record_step.word, record_step.name,
    record_step.result) on conflict do nothing;
  is_new := found;
  return query select s.result::jsonb, is_new from bough.steps s
    where s.root_id = _root_id and s.agent_id = record_step.agent_id
      and s.number = record_step.number and s.word = record_step.word
      and s.name is not distinct from record_step.name;
  if not found then
    raise exception 'step % of agent % was another one before, not %; has the function changed?',
      number, left(agent_id::text, 8), concat_ws(' ', word, name) using errcode = 'TR005';
  end if;
end $$;
comment on function bough_api.record_step is
  'Keeps what a step gave; a repeat gives the first answer.';

create function bough_api.steps(agent_id uuid, after_number integer, page integer)
returns table (number integer, word text, name text, result jsonb, recorded_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query select s.number::integer, s.word::text, s.name::text, s.result::jsonb, s.recorded_at
    from bough.steps s join bough.agents a on a.root_id = s.root_id and a.id = s.agent_id
   where a.id = steps.agent_id and s.number > steps.after_number
   order by s.number limit steps.page;
end $$;
comment on function bough_api.steps is 'Steps of an agent after a number, in order.';
