"""Run a LangChain chain on the machine of a lease, with `langchain-ollama`."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_ollama import ChatOllama

from machines_client import Client, Lease

PROMPT = ChatPromptTemplate.from_template("Explain in one sentence: {question}")


@Client().leased("llama3.1:70b", cold=True, wait_s=30)
def explain(lease: Lease, question: str) -> str:
    """Take a lease for each call, since the best machine may be another one each time."""
    chain = PROMPT | ChatOllama(model=lease.model, base_url=lease.url) | StrOutputParser()
    return chain.invoke({"question": question})


print(explain("Why is the sky blue?"))
