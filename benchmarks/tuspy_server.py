"""tuspyserver with its files in a folder, for uvicorn."""

import os

from fastapi import FastAPI
from tuspyserver import create_tus_router

application = FastAPI()
application.include_router(create_tus_router(files_dir=os.environ["SINK"]))
