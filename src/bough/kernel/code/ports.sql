-- Ports for agents: which numbers are free is the runner's to see, whose they are is decided here.
--
-- An agent that asks again on the same machine keeps what it has. Too few left: TR006, none given.

create function bough_api.take_ports(
  agent_id uuid, epoch bigint, host text, count integer, candidates integer[]
) returns table (port integer)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root uuid := bough_api._hold(take_ports.agent_id, take_ports.epoch);
  _has integer;
begin
  -- One at a time on a machine: two that choose at once would each find the other's in the way.
  perform pg_catalog.pg_advisory_xact_lock(
    pg_catalog.hashtextextended('bough.ports ' || take_ports.host, 0));
  delete from bough.ports p using bough.agents a
   where p.host = take_ports.host and a.id = p.agent_id and a.completed_at is not null;
  select count(*) into _has from bough.ports p
   where p.host = take_ports.host and p.agent_id = take_ports.agent_id;
  insert into bough.ports (host, port, root_id, agent_id)
  select take_ports.host, c.port, _root, take_ports.agent_id
    from pg_catalog.unnest(take_ports.candidates) with ordinality c (port, place)
   where not exists (select from bough.ports p where p.host = take_ports.host and p.port = c.port)
   order by c.place limit greatest(take_ports.count - _has, 0);
  return query select p.port::integer from bough.ports p
    where p.host = take_ports.host and p.agent_id = take_ports.agent_id
    order by p.port limit take_ports.count;
  get diagnostics _has = row_count;
  if _has < take_ports.count then
    raise exception 'agent % asks for % ports and % are free on %; ask for fewer, or end agents',
      left(take_ports.agent_id::text, 8), take_ports.count, _has, take_ports.host
      using errcode = 'TR006';
  end if;
end $$;
comment on function bough_api.take_ports is
  'Gives an agent so many of the candidate ports of a machine, until it has ended.';
