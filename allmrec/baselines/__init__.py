"""What A-LLMRec is compared with beside the models of ``common.models``."""
