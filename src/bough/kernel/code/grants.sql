-- Who may call what: the role bough_program calls functions and reads views, nothing else.
-- Loaded last. Functions named with an underscore are called by other functions only.

revoke all on all functions in schema bough_api from public;
grant usage on schema bough_api to bough_program;
grant select on bough_api.agent_details, bough_api.runner_details to bough_program;
grant execute on function
  bough_api.spawn, bough_api.find, bough_api.report,
  bough_api.complete, bough_api.fail, bough_api.terminate, bough_api.pause, bough_api.resume,
  bough_api.enroll, bough_api.heartbeat, bough_api.retire, bough_api.claim,
  bough_api.record_program, bough_api.strays, bough_api.take_ports,
  bough_api.open_workspace, bough_api.save_workspace, bough_api.fail_workspace,
  bough_api.kept_workspaces, bough_api.remove_workspace,
  bough_api.files, bough_api.subtree_work,
  bough_api.queue_merge, bough_api.merge_queue, bough_api.plan_merges, bough_api.record_merge,
  bough_api.withdraw_merge, bough_api.merges, bough_api.resolve_merge,
  bough_api.log, bough_api.logs, bough_api.events, bough_api.listen, bough_api.news,
  bough_api.reserve, bough_api.settle, bough_api.release, bough_api.expire, bough_api.charge,
  bough_api.grant_budget, bough_api.transfer_budget, bough_api.freeze_budget,
  bough_api.unfreeze_budget, bough_api.account, bough_api.ledger, bough_api.statistics,
  bough_api.send, bough_api.send_many, bough_api.broadcast, bough_api.receive,
  bough_api.acknowledge, bough_api.acknowledge_as_operator, bough_api.inbox, bough_api.thread,
  bough_api.purge_mail, bough_api.park, bough_api.request_approval, bough_api.approvals,
  bough_api.decide, bough_api.issue_token, bough_api.admit, bough_api.spender, bough_api.finish,
  bough_api.record_step, bough_api.steps,
  bough_api.append_conversation, bough_api.conversation,
  bough_api.verify
to bough_program;
