"""A round trip with the client that openapi-python-client generates: every value has a type."""

import os

from client import AuthenticatedClient
from client.api.agent_keys import create_agent_key, delete_agent_key
from client.api.agents import list_agents
from client.api.executions import get_execution, list_executions, read_execution_output
from client.api.jobs import submit_job
from client.models import (
    AgentKeyView,
    AgentView,
    CommandName,
    CommandState,
    CreateAgentKey,
    CreatedAgentKeyView,
    ExecutionView,
    JobBody,
    JobView,
    PageViewAgentView,
    PageViewExecutionView,
    TargetSpec,
)

assert AgentKeyView
client = AuthenticatedClient(base_url=os.environ["MUSTER"], token=os.environ["KEY"])
key = create_agent_key.sync(
    client=client, body=CreateAgentKey(name="from python", permissions=[CommandName.PING], tags=["a:b"])
)
assert isinstance(key, CreatedAgentKeyView), key
assert key.permissions == [CommandName.PING] and key.tags == ["a:b"], key
agents = list_agents.sync(client=client, limit=10)
assert isinstance(agents, PageViewAgentView), agents
agent = agents.items[0]
assert isinstance(agent, AgentView) and str(agent.id) == os.environ["AGENT"], agent
job = submit_job.sync(client=client, body=JobBody(target=TargetSpec(ids=[agent.id]), script="greet"))
assert isinstance(job, JobView), job
page = list_executions.sync(client=client, job_id=job.id)
assert isinstance(page, PageViewExecutionView), page
execution = get_execution.sync(page.items[0].id, client=client, wait_ms=60000)
assert isinstance(execution, ExecutionView), execution
assert execution.state == CommandState.FAILED, execution
output = read_execution_output.sync_detailed(page.items[0].id, client=client)
assert delete_agent_key.sync_detailed(key.id, client=client).status_code == 204
print(execution.state, execution.exit_code, output.content.decode().strip())
