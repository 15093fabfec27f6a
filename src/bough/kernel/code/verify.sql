-- Proof that the rules hold: each broken one is a row that names the agent and the numbers.
--
-- Triggers and constraints keep these true; verify finds what was changed behind their back.
-- It sees one snapshot, changes nothing and needs no lock.

create function bough_api.verify() returns table (rule text, agent_id uuid, detail text)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select 'every agent has a budget', a.id, a.status
    from bough.agents a left join bough.budgets b on b.agent_id = a.id where b.agent_id is null
  union all
  select 'allocated = used + reserved + available', b.agent_id,
      format('%s <> %s + %s + %s', b.allocated, b.used, b.reserved, b.available)
    from bough.budgets b where b.allocated <> b.used + b.reserved + b.available
  union all
  select 'reserved = allocations of living children + open calls', b.agent_id,
      format('%s <> %s + %s', b.reserved, c.living, o.calls)
    from bough.budgets b cross join lateral (
      select coalesce(sum(c.allocated), 0) as living from bough.agents k
        join bough.budgets c on c.agent_id = k.id
       where k.parent_id = b.agent_id and c.reclaimed_at is null) c
    cross join lateral (
      select coalesce(sum(r.tokens_reserved), 0) as calls from bough.reservations r
       where r.payer_id = b.agent_id and r.status = 'open') o
   where b.reserved <> c.living + o.calls
  union all
  select 'used = calls + used of ended children', b.agent_id,
      format('%s <> %s + %s', b.used, o.calls, c.ended)
    from bough.budgets b cross join lateral (
      select coalesce(sum(c.used), 0) as ended from bough.agents k
        join bough.budgets c on c.agent_id = k.id
       where k.parent_id = b.agent_id and c.reclaimed_at is not null) c
    cross join lateral (
      select coalesce(sum(r.tokens_used), 0) as calls from bough.reservations r
       where r.root_id = b.root_id and r.payer_id = b.agent_id) o
   where b.used <> c.ended + o.calls
  union all
  select 'an open call is on the account of a living agent or a root', r.agent_id,
      format('%s tokens on %s', r.tokens_reserved, r.payer_id)
    from bough.reservations r join bough.budgets b on b.agent_id = r.payer_id
   where r.status = 'open' and b.reclaimed_at is not null and b.agent_id <> b.root_id
  union all
  select 'an agent has ended exactly when its budget is reclaimed', a.id,
      format('%s, reclaimed %s', a.status, b.reclaimed_at)
    from bough.agents a join bough.budgets b on b.agent_id = a.id
   where (a.completed_at is null) <> (b.reclaimed_at is null)
  union all
  select * from bough_api._verify_places();
end $$;
comment on function bough_api.verify is 'Every broken rule, its agent and numbers; none: sound.';

create function bough_api._verify_places()
returns table (rule text, agent_id uuid, detail text)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select 'no agent lives under an ended parent', a.id, format('%s under %s', a.status, p.status)
    from bough.agents a join bough.agents p on p.id = a.parent_id
   where a.completed_at is null and p.completed_at is not null
  union all
  select 'a child is one level below its parent, in its tree', a.id,
      format('level %s under %s', a.depth_level, p.depth_level)
    from bough.agents a join bough.agents p on p.id = a.parent_id
   where a.depth_level <> p.depth_level + 1 or a.root_id <> p.root_id
  union all
  select 'one ancestor a level', a.id,
      format('%s rows for level %s', count(h.child_id), a.depth_level)
    from bough.agents a
    left join bough.hierarchies h on h.root_id = a.root_id and h.child_id = a.id
   group by a.id, a.depth_level having count(h.child_id) <> a.depth_level
  union all
  select 'distance 1 is the parent', a.id, format('%s <> %s', h.parent_id, a.parent_id)
    from bough.agents a
    join bough.hierarchies h on h.root_id = a.root_id and h.child_id = a.id and h.distance = 1
   where h.parent_id is distinct from a.parent_id;
end $$;
comment on function bough_api._verify_places is 'Broken rules of the tree''s shape.';
