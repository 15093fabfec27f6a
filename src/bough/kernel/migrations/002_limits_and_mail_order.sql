-- How far a tree may grow, and the order of mail.
--
-- Guarantees: a child never exceeds a limit that an ancestor set and cannot lift it; mail for one
-- recipient is numbered per lane in commit order, and mail for an ended agent is refused.

alter table bough.agents
  add column depth_limit integer, add column children_limit integer,
  add column running_limit bough.positive,
  add column under_running_limit boolean not null default false,
  add constraint depth_within_limit check (depth_level <= depth_limit),
  add constraint children_limit_is_not_negative check (children_limit >= 0);
comment on column bough.agents.depth_limit is 'Deepest level allowed from here down.';
comment on column bough.agents.children_limit is
  'Children that each agent from here down may spawn in its life.';
comment on column bough.agents.running_limit is
  'Agents that may run at once in this subtree, itself included; more wait in line.';
comment on column bough.agents.under_running_limit is
  'True when this agent or an ancestor has a running_limit; set by trigger.';
create index agents_with_running_limit on bough.agents (id)
  where running_limit is not null and completed_at is null;

create function bough.inherit_limits() returns trigger
language plpgsql set search_path = '' as $$
declare
  _parent record;
  _children bigint;
begin
  new.under_running_limit := new.running_limit is not null;
  if new.parent_id is null then
    return new;
  end if;
  -- The trigger place holds the parent's row, so the count cannot change under us.
  select depth_limit, children_limit, under_running_limit into _parent
    from bough.agents where id = new.parent_id;
  if new.depth_level > _parent.depth_limit then
    raise exception 'depth limit: level % asked, % allowed; let % do the work itself',
      new.depth_level, _parent.depth_limit, left(new.parent_id::text, 8) using errcode = 'TR006';
  end if;
  if _parent.children_limit is not null then
    select count(*) into _children from bough.agents where parent_id = new.parent_id;
    if _children >= _parent.children_limit then
      raise exception 'children limit: % has spawned % of % allowed; let it do the work itself',
        left(new.parent_id::text, 8), _children, _parent.children_limit using errcode = 'TR006';
    end if;
  end if;
  new.depth_limit := least(new.depth_limit, _parent.depth_limit);
  new.children_limit := least(new.children_limit, _parent.children_limit);
  new.under_running_limit := new.under_running_limit or _parent.under_running_limit;
  return new;
end $$;
comment on function bough.inherit_limits() is 'Holds a new agent to the limits of its ancestors.';
create trigger place_within_limits before insert on bough.agents
  for each row when (new.parent_id is not null or new.running_limit is not null)
  execute function bough.inherit_limits();

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
