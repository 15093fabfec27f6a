-- Takes back 004_reservations_and_usage.sql: the record of every call, and overdrafts.

drop trigger record_change on bough.budgets;
drop trigger change on bough.budgets;
drop trigger record_creation on bough.budgets;
drop function bough.record_budget(), bough.tell_budget(text, bough.budgets, jsonb),
  bough.change_budget();
drop table bough.reservations;
drop function bough.end_reservation();
-- Without overdraft an account cannot have used more than it had: that part is forgotten.
update bough.budgets set used = used - overdraft, reserved = case when reclaimed_at is null
  then (select coalesce(sum(c.allocated), 0) from bough.agents k
    join bough.budgets c on c.agent_id = k.id
   where k.parent_id = budgets.agent_id and c.reclaimed_at is null) else 0 end;
alter table bough.budgets
  drop constraint used_and_reserved_within_allocated,
  drop constraint reclaimed_budget_reserves_nothing,
  drop column kept, drop column overdraft, drop column warn_percent,
  drop column frozen_at, drop column frozen_reason,
  add constraint used_and_reserved_within_allocated check (used <= allocated - reserved),
  add constraint reclaimed_budget_reserves_nothing check (reclaimed_at is null or reserved = 0),
  reset (fillfactor);
drop domain bough.usd, bough.reservation_status, bough.percent;

create or replace function bough.allocate() returns trigger
language plpgsql set search_path = '' as $$
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

create or replace function bough.reclaim() returns trigger
language plpgsql set search_path = '' as $$
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

create function bough.record_budget() returns trigger
language plpgsql set search_path = '' as $$
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
create trigger record_change after update on bough.budgets
  for each row when (old.allocated <> new.allocated
    or (old.reclaimed_at is null and new.reclaimed_at is not null))
  execute function bough.record_budget();
create trigger record_creation after insert on bough.budgets
  for each row execute function bough.record_budget();
create trigger touch before update on bough.budgets for each row execute function bough.touch();
